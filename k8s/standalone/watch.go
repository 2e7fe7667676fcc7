package standalone

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
)

// longestWatch is how long a watch lasts that does not say.
const longestWatch = time.Hour

// serveWatch streams what changes from a revision on. Without one, or when it is
// asked for, what is there now comes first.
func (s *Site) serveWatch(w http.ResponseWriter, r *http.Request, t target, selector labels.Selector) error {
	q := r.URL.Query()
	from, err := uint64(0), error(nil)
	if text := q.Get("resourceVersion"); text != "" {
		if from, err = strconv.ParseUint(text, 10, 64); err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("resourceVersion %q is not a number", text))
		}
	}
	limit := longestWatch
	if seconds, err := strconv.Atoi(q.Get("timeoutSeconds")); err == nil && seconds > 0 {
		limit = time.Duration(seconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()

	all := truth(q.Get("sendInitialEvents"))
	s.mu.Lock()
	var first []*unstructured.Unstructured
	if all || from == 0 {
		first, from = s.shelves[t.kind].list(t.namespace, selector), s.revision
	}
	late := from < s.shelves[t.kind].dropped
	s.mu.Unlock()
	if late {
		return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d", from))
	}
	out := stream{w: w}
	out.begin()
	for _, u := range first {
		out.send(watch.Added, u.Object)
	}
	if all && truth(q.Get("allowWatchBookmarks")) {
		out.send(watch.Bookmark, map[string]any{
			"apiVersion": t.kind.GroupVersion().String(), "kind": t.kind.Kind,
			"metadata": map[string]any{
				"resourceVersion": strconv.FormatUint(from, 10), "annotations": map[string]any{metav1.InitialEventsAnnotationKey: "true"},
			},
		})
	}
	for out.err == nil {
		s.mu.Lock()
		news, next, changed := s.shelves[t.kind].after(from), s.revision, s.changed
		late := from < s.shelves[t.kind].dropped
		s.mu.Unlock()
		if late { // whoever reads is too slow: it lists again
			expired := apierrors.NewResourceExpired("too old resource version").Status()
			out.send(watch.Error, expired)
			return nil
		}
		for _, c := range news {
			if t.namespace == "" || t.namespace == c.object.GetNamespace() {
				out.tell(c, selector)
			}
		}
		from = next
		out.flush()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// after returns the changes behind a revision.
func (s *shelf) after(revision uint64) []change {
	i := len(s.history)
	for i > 0 && s.history[i-1].revision > revision {
		i--
	}
	return s.history[i:]
}

// stream writes events; the first error ends it.
type stream struct {
	w   http.ResponseWriter
	err error
}

func (s *stream) begin() {
	s.w.Header().Set("Content-Type", "application/json")
	s.w.WriteHeader(http.StatusOK)
	s.flush()
}

// tell sends a change as those see it who only see what the selector selects.
func (s *stream) tell(c change, selector labels.Selector) {
	was := c.before != nil && selector.Matches(labels.Set(c.before.GetLabels()))
	is := c.kind != watch.Deleted && selector.Matches(labels.Set(c.object.GetLabels()))
	switch {
	case was && is:
		s.send(watch.Modified, c.object.Object)
	case is:
		s.send(watch.Added, c.object.Object)
	case was:
		s.send(watch.Deleted, c.object.Object)
	}
}

func (s *stream) send(kind watch.EventType, object any) {
	if s.err != nil {
		return
	}
	text, err := json.Marshal(map[string]any{"type": kind, "object": object})
	if err != nil {
		s.err = err
		return
	}
	_, s.err = s.w.Write(append(text, '\n'))
}

func (s *stream) flush() {
	if f, ok := s.w.(http.Flusher); ok && s.err == nil {
		f.Flush()
	}
}
