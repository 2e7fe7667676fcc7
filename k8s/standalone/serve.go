package standalone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// longestBody is how much a request may have, in bytes: twice what etcd takes.
const longestBody = 3 << 20

// target is what a URL is about.
type target struct {
	kind      *kind
	namespace string
	name      string // "" for all
	sub       string // "" or status
}

// ServeHTTP answers as an API server does.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.discover(w, r) {
		return
	}
	t, err := s.target(r.URL.Path)
	if err != nil {
		refuse(w, err)
		return
	}
	switch {
	case t.name == "" && r.Method == http.MethodGet:
		err = s.serveList(w, r, t)
	case t.name == "" && r.Method == http.MethodPost:
		err = s.servePost(w, r, t)
	case t.name != "" && r.Method == http.MethodGet:
		var u *unstructured.Unstructured
		if u, err = s.get(t.kind, t.key()); err == nil {
			answer(w, http.StatusOK, u.Object)
		}
	case t.name != "" && r.Method == http.MethodPut:
		err = s.servePut(w, r, t)
	case t.name != "" && r.Method == http.MethodPatch:
		err = s.servePatch(w, r, t)
	case t.name != "" && t.sub == "" && r.Method == http.MethodDelete:
		err = s.serveDelete(w, r, t)
	default:
		err = apierrors.NewMethodNotSupported(t.kind.resource(), r.Method)
	}
	if err != nil {
		refuse(w, err)
	}
}

func (t target) key() types.NamespacedName {
	return types.NamespacedName{Namespace: t.namespace, Name: t.name}
}

// target reads /api/VERSION/... and /apis/GROUP/VERSION/..., with an optional
// namespaces/NAMESPACE, then PLURAL, NAME and a subresource.
func (s *Site) target(path string) (t target, err error) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	unknown := apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "the server could not find the requested resource", 0, true)
	var gv schema.GroupVersion
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		gv, parts = schema.GroupVersion{Version: parts[1]}, parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		gv, parts = schema.GroupVersion{Group: parts[1], Version: parts[2]}, parts[3:]
	default:
		return t, unknown
	}
	if len(parts) > 2 && parts[0] == "namespaces" && s.kinds[gv.WithResource(parts[2])] != nil {
		t.namespace, parts = parts[1], parts[2:]
	}
	t.kind = s.kinds[gv.WithResource(parts[0])]
	if t.kind == nil || len(parts) > 3 {
		return t, unknown
	}
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 {
		t.sub = parts[2]
	}
	if t.sub != "" && (t.sub != "status" || !t.kind.status) || t.namespace != "" && !t.kind.namespaced || t.namespace == "" && t.kind.namespaced && t.name != "" {
		return t, unknown
	}
	return t, nil
}

func (s *Site) serveList(w http.ResponseWriter, r *http.Request, t target) error {
	q := r.URL.Query()
	selector, err := labels.Parse(q.Get("labelSelector"))
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if q.Get("fieldSelector") != "" {
		return apierrors.NewBadRequest("field selectors are not understood here")
	}
	if truth(q.Get("watch")) {
		return s.serveWatch(w, r, t, selector)
	}
	s.mu.Lock()
	found := s.shelves[t.kind].list(t.namespace, selector)
	revision := s.revision
	s.mu.Unlock()
	items := make([]any, 0, len(found))
	for _, u := range found {
		items = append(items, u.Object)
	}
	answer(w, http.StatusOK, map[string]any{
		"apiVersion": t.kind.GroupVersion().String(), "kind": t.kind.Kind + "List",
		"metadata": map[string]any{"resourceVersion": strconv.FormatUint(revision, 10)}, "items": items,
	})
	return nil
}

// list returns objects in the order of their names.
func (s *shelf) list(namespace string, selector labels.Selector) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for key, u := range s.objects {
		if (namespace == "" || key.Namespace == namespace) && selector.Matches(labels.Set(u.GetLabels())) {
			found = append(found, u)
		}
	}
	slices.SortFunc(found, func(a, b *unstructured.Unstructured) int {
		return strings.Compare(keyOf(a).String(), keyOf(b).String())
	})
	return found
}

func (s *Site) servePost(w http.ResponseWriter, r *http.Request, t target) error {
	u, err := readObject(r, t)
	if err != nil {
		return err
	}
	t.name = u.GetName()
	u, _, err = s.write(t.kind, t.key(), "", func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		if live != nil {
			return nil, apierrors.NewAlreadyExists(t.kind.resource(), t.name)
		}
		return owned(t, nil, u, manager(r))
	})
	if err != nil {
		return err
	}
	answer(w, http.StatusCreated, u.Object)
	return nil
}

func (s *Site) servePut(w http.ResponseWriter, r *http.Request, t target) error {
	u, err := readObject(r, t)
	if err != nil {
		return err
	}
	u, _, err = s.write(t.kind, t.key(), t.sub, func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		if live == nil {
			return nil, notFound(t.kind, t.key())
		}
		return owned(t, live, u, manager(r))
	})
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, u.Object)
	return nil
}

func (s *Site) serveDelete(w http.ResponseWriter, r *http.Request, t target) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	var o metav1.DeleteOptions
	if len(body) > 0 {
		if err := json.Unmarshal(body, &o); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	u, err := s.remove(t.kind, t.key(), o.Preconditions)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, u.Object)
	return nil
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, longestBody+1))
	if err == nil && len(body) > longestBody {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("more than %d bytes", longestBody))
	}
	return body, err
}

// readObject reads the object of a request, which has to be of the kind that the URL
// says.
func readObject(r *http.Request, t target) (*unstructured.Unstructured, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(body, &u.Object); err != nil { // which keeps integers
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return u, fits(u, t)
}

func fits(u *unstructured.Unstructured, t target) error {
	switch {
	case u.Object == nil:
		return apierrors.NewBadRequest("there is no object")
	case u.GetKind() != "" && u.GroupVersionKind() != t.kind.GroupVersionKind:
		return apierrors.NewBadRequest(fmt.Sprintf("%s is not %s", u.GroupVersionKind(), t.kind.GroupVersionKind))
	case t.name != "" && u.GetName() != t.name || u.GetName() == "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", u.GetName(), t.name))
	case u.GetNamespace() != "" && u.GetNamespace() != t.namespace:
		return apierrors.NewBadRequest(fmt.Sprintf("the namespace of the object (%s) does not match the namespace on the URL (%s)", u.GetNamespace(), t.namespace))
	}
	u.SetGroupVersionKind(t.kind.GroupVersionKind)
	u.SetNamespace(t.namespace)
	return nil
}

func truth(text string) bool {
	v, err := strconv.ParseBool(text)
	return err == nil && v
}

func answer(w http.ResponseWriter, code int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(text) // who asked is gone, if this fails
}

// refuse says in a Status what is wrong.
func refuse(w http.ResponseWriter, err error) {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}}
	}
	status := known.Status()
	status.APIVersion, status.Kind = "v1", "Status"
	answer(w, int(status.Code), status)
}
