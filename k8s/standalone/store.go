package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"
	validationerrors "k8s.io/kube-openapi/pkg/validation/errors"
)

// Options of a Site.
type Options struct {
	// Dir is the folder with the objects; it is made if it is not there. Empty, everything is in memory only, which is for
	// simulations: a restart has to ask the parent.
	Dir    string
	Logger *slog.Logger
}

// Site holds the objects.
type Site struct {
	kinds catalogue
	disk  *disk // nil: in memory
	log   *slog.Logger

	mu       sync.Mutex
	revision uint64 // of the last change
	shelves  map[*kind]*shelf
	changed  chan struct{}     // closed at the next change
	missing  map[string]string // damaged files, with the reason
	heard    time.Time         // when all was known that the parent says; zero: not yet
	trouble  error             // why the last write failed
}

// shelf is all objects of a kind, and the last changes of them.
type shelf struct {
	objects map[types.NamespacedName]*unstructured.Unstructured
	history []change
	dropped uint64 // revision of the last change that is not in history
}

// change is one event: an object is in it as it is, or was when it was deleted.
type change struct {
	revision uint64
	kind     watch.EventType
	object   *unstructured.Unstructured
	before   *unstructured.Unstructured // nil: it was not there
}

// kept is how many changes a watch may be behind before it has to list again.
const kept = 512

// Open reads the folder. What cannot be read stops it; damaged files do not.
func Open(o Options) (*Site, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	all, err := kinds()
	if err != nil {
		return nil, err
	}
	s := &Site{kinds: all, log: o.Logger, shelves: map[*kind]*shelf{}, changed: make(chan struct{}), missing: map[string]string{}}
	for _, k := range all {
		s.shelves[k] = &shelf{objects: map[types.NamespacedName]*unstructured.Unstructured{}}
	}
	if o.Dir == "" {
		return s, nil
	}
	if s.disk, err = openDisk(o.Dir); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.disk.close())
	}
	return s, nil
}

// Close lets another process have the folder. All use of the Site has to have ended.
func (s *Site) Close() error {
	if s.disk == nil {
		return nil
	}
	return s.disk.close()
}

func (s *Site) load() error {
	files, refused, err := s.disk.read(s.kinds)
	if err != nil {
		return err
	}
	for name, why := range refused {
		s.log.Warn("refused a damaged file; it is set aside, and its object is fetched anew", "file", name, "reason", why, "aside", name+refusedSuffix)
		s.missing[name] = why
	}
	for _, f := range files {
		s.shelves[f.kind].objects[keyOf(f.object)] = f.object
		if n, err := strconv.ParseUint(f.object.GetResourceVersion(), 10, 64); err == nil {
			s.revision = max(s.revision, n)
		}
	}
	for _, shelf := range s.shelves {
		shelf.dropped = s.revision
	}
	return nil
}

// Refused names the files that were damaged, with the reason, and whose objects have
// not been fetched anew.
func (s *Site) Refused() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := map[string]string{}
	for name, why := range s.missing {
		refused[name] = why
	}
	return refused
}

// WaitWhole waits until the objects of damaged files are there again, or the parent
// has had time to say that it has them no more.
func (s *Site) WaitWhole(ctx context.Context) {
	for {
		s.mu.Lock()
		missing, changed, heard := len(s.missing), s.changed, s.heard
		s.mu.Unlock()
		if missing == 0 || !heard.IsZero() && time.Since(heard) > settled {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(time.Second):
		}
	}
}

// Heard says that all is known that the parent says.
func (s *Site) Heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heard.IsZero() {
		s.heard = time.Now()
	}
}

// settled is how long after Heard everything that the parent has is in the folder.
const settled = 15 * time.Second

// Well says why the folder cannot be written; nil if it can.
func (s *Site) Well() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble != nil && s.disk != nil {
		s.trouble = s.disk.try()
	}
	return s.trouble
}

func keyOf(u *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: u.GetNamespace(), Name: u.GetName()}
}

func (k *kind) resource() schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: k.plural}
}

func (s *Site) get(k *kind, key types.NamespacedName) (*unstructured.Unstructured, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.shelves[k].objects[key]; u != nil {
		return u, nil
	}
	return nil, notFound(k, key)
}

func notFound(k *kind, key types.NamespacedName) error {
	return apierrors.NewNotFound(k.resource(), key.Name)
}

func conflict(k *kind, key types.NamespacedName, text string) error {
	return apierrors.NewConflict(k.resource(), key.Name, errors.New(text))
}

// gone is said to who wants to change what is not there.
func gone(k *kind, key types.NamespacedName, uid types.UID) error {
	return conflict(k, key, fmt.Sprintf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
}

// edit makes the next version of an object out of the live one, which is nil when
// there is none, and must not be changed.
type edit func(live *unstructured.Unstructured) (*unstructured.Unstructured, error)

// write replaces an object. What is wrong with the next version, or older than the
// live one, is refused; what is the same is not written.
func (s *Site) write(k *kind, key types.NamespacedName, sub string, next edit) (result *unstructured.Unstructured, created bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := s.shelves[k].objects[key]
	u, err := next(live)
	if err != nil {
		return nil, false, err
	}
	u.SetGroupVersionKind(k.GroupVersionKind)
	u.SetName(key.Name)
	u.SetNamespace(key.Namespace)
	if live == nil {
		if err := s.begin(k, key, u); err != nil {
			return nil, false, err
		}
	} else {
		if u, err = succeed(k, key, sub, live, u); err != nil {
			return nil, false, err
		}
		if same(live, u) {
			return live, false, nil
		}
	}
	if err := k.check(key, u); err != nil {
		return nil, false, err
	}
	if live != nil && live.GetDeletionTimestamp() != nil && len(u.GetFinalizers()) == 0 {
		return u, false, s.drop(k, key, u)
	}
	return u, live == nil, s.put(k, key, live, u)
}

// begin completes a new object.
func (s *Site) begin(k *kind, key types.NamespacedName, u *unstructured.Unstructured) error {
	if u.GetUID() != "" || u.GetResourceVersion() != "" {
		return gone(k, key, u.GetUID())
	}
	if problems := apivalidation.NameIsDNSSubdomain(key.Name, false); len(problems) > 0 {
		return apierrors.NewBadRequest(fmt.Sprintf("name %q: %s", key.Name, problems[0]))
	}
	if len(key.Name) > longestName || len(key.Namespace) > 63 {
		return apierrors.NewBadRequest(fmt.Sprintf("name %q: more than %d characters", key.Name, longestName))
	}
	u.SetUID(uuid.NewUUID())
	u.SetCreationTimestamp(metav1.Now().Rfc3339Copy())
	u.SetDeletionTimestamp(nil)
	if k.status {
		u.SetGeneration(1)
		delete(u.Object, "status")
	}
	return nil
}

// succeed makes a new version what may follow the live one.
func succeed(k *kind, key types.NamespacedName, sub string, live, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if v := u.GetResourceVersion(); v != "" && v != live.GetResourceVersion() {
		return nil, conflict(k, key, "the object has been modified; please apply your changes to the latest version and try again")
	}
	if uid := u.GetUID(); uid != "" && uid != live.GetUID() {
		return nil, apierrors.NewInvalid(k.GroupKind(), key.Name, field.ErrorList{field.Invalid(field.NewPath("metadata", "uid"), uid, "field is immutable")})
	}
	switch {
	case sub == "status":
		next := live.DeepCopy()
		if status, ok := u.Object["status"]; ok {
			next.Object["status"] = status
		} else {
			delete(next.Object, "status")
		}
		next.SetManagedFields(u.GetManagedFields())
		return next, nil
	case k.status:
		if status, ok := live.Object["status"]; ok {
			u.Object["status"] = status
		} else {
			delete(u.Object, "status")
		}
	}
	u.SetResourceVersion(live.GetResourceVersion())
	u.SetUID(live.GetUID())
	u.SetCreationTimestamp(live.GetCreationTimestamp())
	u.SetDeletionTimestamp(live.GetDeletionTimestamp())
	u.SetDeletionGracePeriodSeconds(live.GetDeletionGracePeriodSeconds())
	u.SetGeneration(live.GetGeneration())
	if k.status && !equal(live.Object["spec"], u.Object["spec"]) {
		u.SetGeneration(live.GetGeneration() + 1)
	}
	return u, nil
}

// check asks the schema.
func (k *kind) check(key types.NamespacedName, u *unstructured.Unstructured) error {
	if k.validator == nil {
		return nil
	}
	k.Default(u)
	var problems field.ErrorList
	for _, problem := range k.validator.Validate(u.Object).Errors {
		problems = append(problems, inWords(problem))
	}
	if len(problems) == 0 {
		return nil
	}
	return apierrors.NewInvalid(k.GroupKind(), key.Name, problems)
}

// inWords is a schema's problem as API servers put it.
func inWords(problem error) *field.Error {
	var v *validationerrors.Validation
	if !errors.As(problem, &v) {
		return &field.Error{Type: field.ErrorTypeInvalid, BadValue: "", Detail: problem.Error()}
	}
	e := &field.Error{Type: field.ErrorTypeInvalid, Field: strings.TrimPrefix(v.Name, "."), BadValue: v.Value, Detail: v.Error()}
	if v.Code() == validationerrors.RequiredFailCode {
		e.Type, e.Detail = field.ErrorTypeRequired, ""
	}
	if e.BadValue == nil {
		e.BadValue = ""
	}
	return e
}

// remove deletes an object, or marks it when it has finalizers.
func (s *Site) remove(k *kind, key types.NamespacedName, p *metav1.Preconditions) (*unstructured.Unstructured, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := s.shelves[k].objects[key]
	if live == nil {
		return nil, notFound(k, key)
	}
	if p != nil && p.UID != nil && *p.UID != live.GetUID() {
		return nil, conflict(k, key, fmt.Sprintf("the UID in the precondition (%s) does not match the UID in record (%s)", *p.UID, live.GetUID()))
	}
	if p != nil && p.ResourceVersion != nil && *p.ResourceVersion != live.GetResourceVersion() {
		return nil, conflict(k, key, fmt.Sprintf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s)", *p.ResourceVersion, live.GetResourceVersion()))
	}
	u := live.DeepCopy()
	if len(u.GetFinalizers()) == 0 {
		return u, s.drop(k, key, u)
	}
	if u.GetDeletionTimestamp() != nil {
		return u, nil
	}
	now := metav1.Now().Rfc3339Copy()
	u.SetDeletionTimestamp(&now)
	zero := int64(0)
	u.SetDeletionGracePeriodSeconds(&zero)
	if k.status {
		u.SetGeneration(u.GetGeneration() + 1)
	}
	return u, s.put(k, key, live, u)
}

// put writes the file, then shows the object.
func (s *Site) put(k *kind, key types.NamespacedName, live, u *unstructured.Unstructured) error {
	u.SetResourceVersion(strconv.FormatUint(s.revision+1, 10))
	if s.disk != nil {
		name := fileName(k, key)
		if s.trouble = s.disk.write(name, u); s.trouble != nil {
			return apierrors.NewInternalError(s.trouble)
		}
		delete(s.missing, name)
	}
	event := change{kind: watch.Modified, object: u, before: live}
	if live == nil {
		event.kind = watch.Added
	}
	s.shelves[k].objects[key] = u
	s.tell(k, event)
	return nil
}

// drop removes the file, then the object; u is what it was last.
func (s *Site) drop(k *kind, key types.NamespacedName, u *unstructured.Unstructured) error {
	if s.disk != nil {
		if s.trouble = s.disk.remove(fileName(k, key)); s.trouble != nil {
			return apierrors.NewInternalError(s.trouble)
		}
	}
	before := s.shelves[k].objects[key]
	delete(s.shelves[k].objects, key)
	u.SetResourceVersion(strconv.FormatUint(s.revision+1, 10))
	s.tell(k, change{kind: watch.Deleted, object: u, before: before})
	return nil
}

// tell adds a change to the history, and wakes watches.
func (s *Site) tell(k *kind, c change) {
	s.revision++
	c.revision = s.revision
	shelf := s.shelves[k]
	if len(shelf.history) >= kept {
		shelf.dropped = shelf.history[kept/2-1].revision
		shelf.history = append([]change(nil), shelf.history[kept/2:]...)
	}
	shelf.history = append(shelf.history, c)
	close(s.changed)
	s.changed = make(chan struct{})
}

// same reports whether two versions are the same but for the times of field
// ownership.
func same(a, b *unstructured.Unstructured) bool {
	return equal(timeless(a), timeless(b))
}

func equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

func timeless(u *unstructured.Unstructured) map[string]any {
	copied := u.DeepCopy()
	fields := copied.GetManagedFields()
	for i := range fields {
		fields[i].Time = nil
	}
	copied.SetManagedFields(fields)
	return copied.Object
}
