package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/content"
	"github.com/sluicegw/sluice/k8s/placement"
)

// Times of the content controller.
const (
	lookAgain   = 5 * time.Minute        // at what is watched: nothing should be found
	lookOften   = 10 * time.Second       // at what the agent may not watch
	settleDrift = 100 * time.Millisecond // a rollout changes an object many times
	retryFirst  = time.Second            // what could not be applied, then twice as long each time
	retryLast   = 30 * time.Second
)

// contents brings what mirrored Missions carry into this cluster.
type contents struct {
	client   client.Client
	fresh    client.Reader // what the cache would say too late
	self     *identity
	watches  *watches
	commands *commands
	possible func(schema.GroupVersionKind) error // says why no object of a kind can be here

	mu       sync.Mutex
	failures map[string]int // in a row, by Mission
	applied  map[v1alpha1.ObjectName]appliedAs
}

func (r *contents) setUp(mgr ctrl.Manager) error {
	r.failures, r.applied = map[string]int{}, map[v1alpha1.ObjectName]appliedAs{}
	dependents := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) (requests []reconcile.Request) {
		var list v1alpha1.MissionList
		if err := r.client.List(ctx, &list); err != nil {
			return nil // the cache is gone, and we go with it
		}
		for i := range list.Items {
			if slices.Contains(list.Items[i].Spec.DependsOn, o.GetName()) {
				requests = append(requests, request(list.Items[i].Name))
			}
		}
		return requests
	})
	return ctrl.NewControllerManagedBy(mgr).Named("contents").WithOptions(options(4)).
		For(&v1alpha1.Mission{}, builder.WithPredicates(notOnlyStatus)).
		Watches(&v1alpha1.Mission{}, dependents).
		WatchesRawSource(r.watches.bell.source(settleDrift)).
		WatchesRawSource(r.commands.bell.source(0)).
		WatchesRawSource(r.self.changed.forAll(missionNames(r.client))).
		Complete(r)
}

// notOnlyStatus keeps the controller from looking at a Mission because it has just
// written what it saw. Deletion counts as a generation.
var notOnlyStatus = predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, predicate.LabelChangedPredicate{})

func (r *contents) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	// Not from the cache: an object that was noted a moment ago and is not seen there would be forgotten for good.
	var m v1alpha1.Mission
	if err := r.fresh.Get(ctx, client.ObjectKey{Name: req.Name}, &m); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !mirrored(&m) {
		return ctrl.Result{}, nil
	}
	result, err := r.bring(ctx, &m)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	result.State = content.Cut(result.State)
	if err := r.write(ctx, &m, result.MissionState, result.objects, result.run); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if m.DeletionTimestamp != nil && len(result.objects) == 0 && result.run == nil {
		r.calm(m.Name)
		return ctrl.Result{}, client.IgnoreNotFound(removeFinalizer(ctx, r.client, &m, v1alpha1.FinalizerContent))
	}
	return ctrl.Result{RequeueAfter: r.after(&m, result)}, nil
}

// outcome is what came of one look at a Mission.
type outcome struct {
	v1alpha1.MissionState
	applied bool                  // the objects are as the Mission wants them
	objects []v1alpha1.ObjectName // that the Mission has in this cluster from now on
	run     *v1alpha1.MissionRun  // likewise
	again   time.Duration         // when a command has to be looked at again
	retry   bool                  // something is not as wanted, and no event will tell when it can be
	blind   bool                  // of some objects no news will come
}

// bring does what has to be done about a Mission. An error is one of our own
// writing; what is wrong with the Mission is in the outcome.
func (r *contents) bring(ctx context.Context, m *v1alpha1.Mission) (outcome, error) {
	noted := notedObjects(m)
	if m.DeletionTimestamp != nil {
		out := r.undo(m, r.takeAway(ctx, m, noted))
		out.Phase = v1alpha1.PhaseDeleting
		return out, nil
	}
	matches, err := placement.Matches(m.Spec.Placement, r.self.cluster())
	if err != nil {
		return failed(err.Error(), noted).noting(notedRun(m)), nil
	}
	if !matches {
		out := r.undo(m, r.takeAway(ctx, m, noted))
		if len(out.objects) == 0 && out.run == nil {
			out.Phase, out.State = v1alpha1.PhaseNotMatched, v1alpha1.StateNotMatch
		} else {
			out.Phase = v1alpha1.PhaseDeleting
		}
		return out, nil
	}
	if m.Spec.Command != nil {
		if out := r.takeAway(ctx, m, noted); len(out.objects) > 0 { // it had objects before
			out.Phase = v1alpha1.PhaseProgressing
			return out.noting(notedRun(m)), nil
		}
		return r.run(ctx, m)
	}
	if out := r.undo(m, outcome{objects: noted}); out.run != nil { // it had a command before
		return out, nil
	}
	objects, err := content.Parse(m.Spec)
	if err != nil {
		return failed(err.Error(), noted), nil
	}
	if !appliedBefore(m) {
		if phase, text := r.waitsFor(ctx, m); text != "" {
			return outcome{MissionState: v1alpha1.MissionState{Phase: phase, State: text}, objects: noted}, nil
		}
	}
	return r.put(ctx, m, objects, noted)
}

func failed(text string, objects []v1alpha1.ObjectName) outcome {
	return outcome{MissionState: v1alpha1.MissionState{Phase: v1alpha1.PhaseFailed, State: strings.Join(strings.Fields(text), " ")}, objects: objects}
}

// put applies the objects, then deletes those that the Mission had and has no more.
func (r *contents) put(ctx context.Context, m *v1alpha1.Mission, objects []*unstructured.Unstructured, noted []v1alpha1.ObjectName) (outcome, error) {
	var out outcome
	var problems []error
	var wanted []*unstructured.Unstructured
	for _, u := range objects {
		if err := r.place(u); err != nil {
			problems = append(problems, err)
			continue
		}
		wanted = append(wanted, u)
	}
	placed := len(problems) == 0
	// Noted first, then applied: whenever we are killed, nothing is in the cluster that is not noted.
	all := slices.Clone(noted)
	for _, u := range wanted {
		if name := content.NameOf(u); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	if len(all) > len(noted) {
		state := v1alpha1.MissionState{Phase: v1alpha1.PhaseProgressing, State: "being applied"}
		if m.Status.Local != nil {
			state = m.Status.Local.MissionState
		}
		if err := r.write(ctx, m, state, all, nil); err != nil {
			return outcome{}, err
		}
	}
	var live []*unstructured.Unstructured
	refused := map[v1alpha1.ObjectName]bool{}
	for _, u := range wanted {
		got, err := r.applyOne(ctx, m, u)
		switch {
		case errors.Is(err, errNotOurs), apierrors.IsForbidden(err) && !slices.Contains(noted, content.NameOf(u)):
			refused[content.NameOf(u)] = true // it is not there as ours, and we need not ask, which may be forbidden too
			fallthrough
		case err != nil:
			problems = append(problems, fmt.Errorf("%s: %s", content.Words(content.NameOf(u)), reason(err)))
		default:
			live = append(live, got)
		}
		out.blind = out.blind || !r.watches.sees(u.GroupVersionKind())
	}
	for _, name := range all {
		if slices.ContainsFunc(wanted, func(u *unstructured.Unstructured) bool { return content.NameOf(u) == name }) {
			if !refused[name] {
				out.objects = append(out.objects, name)
			}
			continue
		}
		if !placed { // its name may be that of an object that we could not place: wait
			out.objects = append(out.objects, name)
			continue
		}
		keep := m.Spec.Prune != nil && !*m.Spec.Prune || m.Spec.Deletion == v1alpha1.Orphan
		there, err := r.remove(ctx, m, name, keep)
		if err != nil {
			problems = append(problems, fmt.Errorf("delete %s: %s", content.Words(name), reason(err)))
		}
		if there {
			out.objects = append(out.objects, name)
			out.retry = true
		}
	}
	if len(problems) > 0 {
		f := failed(errors.Join(problems...).Error(), out.objects)
		f.retry, f.blind = true, out.blind
		return f, nil
	}
	out.applied = true
	out.Phase, out.State = content.Progress(live)
	if m.Spec.StateCheck != nil {
		r.check(ctx, m, live, &out)
	}
	return out, nil
}

// check asks the Mission's own question about its state.
func (r *contents) check(ctx context.Context, m *v1alpha1.Mission, live []*unstructured.Unstructured, out *outcome) {
	check := m.Spec.StateCheck
	if len(check.Command) > 0 {
		r.checkByCommand(m, out)
		return
	}
	var object *unstructured.Unstructured
	if check.Object == nil && len(live) > 0 {
		object = live[0]
	} else if check.Object != nil {
		wanted := named(*check.Object)
		if err := r.place(wanted); err != nil {
			out.Phase, out.State = v1alpha1.PhaseFailed, "stateCheck.object: "+err.Error()
			return
		}
		i := slices.IndexFunc(live, func(u *unstructured.Unstructured) bool { return content.NameOf(u) == content.NameOf(wanted) })
		if i < 0 {
			out.Phase, out.State = v1alpha1.PhaseFailed, "stateCheck.object: "+content.Words(content.NameOf(wanted))+" is not in the Mission"
			return
		}
		object = live[i]
	}
	var ready *bool
	var err error
	switch {
	case check.FieldPath != "":
		out.State, err = content.FieldPath(check.FieldPath, object.Object)
	default:
		out.State, ready, err = content.Expression(ctx, check.Expression, object.Object)
	}
	switch {
	case err != nil:
		out.Phase, out.State = v1alpha1.PhaseFailed, err.Error()
	case ready != nil && *ready:
		out.Phase = v1alpha1.PhaseReady
	case ready != nil && out.Phase == v1alpha1.PhaseReady:
		out.Phase = v1alpha1.PhaseProgressing
	}
}

// takeAway deletes the objects, in the opposite order of their coming.
func (r *contents) takeAway(ctx context.Context, m *v1alpha1.Mission, objects []v1alpha1.ObjectName) outcome {
	var out outcome
	var problems []string
	for _, name := range slices.Backward(objects) {
		there, err := r.remove(ctx, m, name, m.Spec.Deletion == v1alpha1.Orphan)
		if err != nil {
			problems = append(problems, fmt.Sprintf("delete %s: %s", content.Words(name), reason(err)))
		}
		if there {
			out.objects = append(out.objects, name)
			out.retry = true
		}
	}
	slices.Reverse(out.objects)
	if out.State = strings.Join(problems, "; "); out.State == "" && len(out.objects) > 0 {
		out.State = "waits until " + content.Words(out.objects[len(out.objects)-1]) + " is gone"
	}
	return out
}

// waitsFor says what a Mission has to wait for; "" for nothing.
func (r *contents) waitsFor(ctx context.Context, m *v1alpha1.Mission) (v1alpha1.Phase, string) {
	for _, name := range m.Spec.DependsOn {
		if way := r.circle(ctx, m.Name, []string{name}); way != nil {
			return v1alpha1.PhaseFailed, "dependsOn goes in a circle: " + m.Name + ", " + strings.Join(way, ", ")
		}
	}
	for _, name := range m.Spec.DependsOn {
		var other v1alpha1.Mission
		if err := r.client.Get(ctx, client.ObjectKey{Name: name}, &other); err != nil {
			return v1alpha1.PhaseWaiting, "waits for Mission " + name + ", which is not here"
		}
		local := other.Status.Local
		switch {
		case local == nil:
			return v1alpha1.PhaseWaiting, "waits for Mission " + name
		case local.Phase == v1alpha1.PhaseNotMatched:
		case local.Phase != v1alpha1.PhaseReady || local.ObservedGeneration < generation(&other):
			return v1alpha1.PhaseWaiting, fmt.Sprintf("waits for Mission %s, which is %s", name, strings.ToLower(string(local.Phase)))
		}
	}
	return "", ""
}

// circle returns the way along dependsOn back to a Mission, nil when there is none.
func (r *contents) circle(ctx context.Context, to string, way []string) []string {
	last := way[len(way)-1]
	if last == to {
		return way
	}
	var m v1alpha1.Mission
	if err := r.client.Get(ctx, client.ObjectKey{Name: last}, &m); err != nil {
		return nil
	}
	for _, next := range m.Spec.DependsOn {
		if slices.Contains(way, next) {
			continue // a circle of others is theirs to report
		}
		if found := r.circle(ctx, to, append(slices.Clone(way), next)); found != nil {
			return found
		}
	}
	return nil
}

// write sets status.local, if it is news.
func (r *contents) write(ctx context.Context, m *v1alpha1.Mission, state v1alpha1.MissionState, objects []v1alpha1.ObjectName, run *v1alpha1.MissionRun) error {
	next := v1alpha1.MissionLocal{MissionState: state, Objects: objects, Run: run}
	next.Path = ""
	next.ObservedGeneration = generation(m)
	if m.Status.Local != nil {
		next.Conditions = slices.Clone(m.Status.Local.Conditions)
	}
	setConditions(&next.MissionState, time.Now())
	if m.Status.Local != nil && apiequality.Semantic.DeepEqual(*m.Status.Local, next) {
		return nil
	}
	w := sluice("Mission", "", m.Name)
	w.Status = map[string]any{"local": next}
	var got v1alpha1.Mission
	if err := w.applyStatus(ctx, r.client, &got, ownerContent); err != nil {
		return fmt.Errorf("write status of Mission %s: %w", m.Name, err)
	}
	got.DeepCopyInto(m)
	return nil
}

// setConditions says the phase in conditions.
func setConditions(s *v1alpha1.MissionState, now time.Time) {
	at := metav1.NewTime(now.Truncate(time.Second))
	truth := func(b bool) metav1.ConditionStatus {
		if b {
			return metav1.ConditionTrue
		}
		return metav1.ConditionFalse
	}
	working := s.Phase == v1alpha1.PhaseReady || s.Phase == v1alpha1.PhaseProgressing
	for kind, value := range map[string]bool{v1alpha1.ConditionApplied: working, v1alpha1.ConditionReady: s.Phase == v1alpha1.PhaseReady} {
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: kind, Status: truth(value), Reason: string(s.Phase), ObservedGeneration: s.ObservedGeneration, LastTransitionTime: at,
		})
	}
	slices.SortFunc(s.Conditions, func(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) })
}

// after says when to look at a Mission again, if nothing happens.
func (r *contents) after(m *v1alpha1.Mission, out outcome) time.Duration {
	if out.retry {
		r.mu.Lock()
		n := r.failures[m.Name]
		r.failures[m.Name] = n + 1
		r.mu.Unlock()
		return jitter(min(retryFirst<<min(n, 10), retryLast))
	}
	r.calm(m.Name)
	switch {
	case out.again > 0:
		return out.again
	case out.blind:
		return jitter(lookOften)
	}
	return jitter(lookAgain)
}

func (r *contents) calm(mission string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.failures, mission)
}

// jitter keeps clusters that lost the same thing from asking for it at the same
// time: up to a fifth more.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/5+1) }

// appliedBefore reports whether this generation was applied already, so that what it
// depends on may come and go.
func appliedBefore(m *v1alpha1.Mission) bool {
	local := m.Status.Local
	return local != nil && local.ObservedGeneration == generation(m) && meta.IsStatusConditionTrue(local.Conditions, v1alpha1.ConditionApplied)
}

func notedObjects(m *v1alpha1.Mission) []v1alpha1.ObjectName {
	if m.Status.Local == nil {
		return nil
	}
	return m.Status.Local.Objects
}
