package standalone

import (
	"fmt"
	"net/http"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/yaml"
)

// servePatch understands merge patches, JSON patches and server-side apply.
func (s *Site) servePatch(w http.ResponseWriter, r *http.Request, t target) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	var next edit
	who := manager(r)
	switch kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); types.PatchType(kind) {
	case types.ApplyYAMLPatchType:
		next, err = apply(t, body, r.URL.Query().Get("fieldManager"), truth(r.URL.Query().Get("force")))
	case types.MergePatchType:
		next = patched(t, who, func(live []byte) ([]byte, error) { return jsonpatch.MergePatch(live, body) })
	case types.JSONPatchType:
		var patch jsonpatch.Patch
		if patch, err = jsonpatch.DecodePatch(body); err == nil {
			next = patched(t, who, patch.Apply)
		} else {
			err = apierrors.NewBadRequest(err.Error())
		}
	default:
		err = apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, r.Method, t.kind.resource(), t.name, fmt.Sprintf("a patch of type %q is not understood here", kind), 0, true)
	}
	if err != nil {
		return err
	}
	u, created, err := s.write(t.kind, t.key(), t.sub, next)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	answer(w, code, u.Object)
	return nil
}

// patched edits the JSON of an object that is there.
func patched(t target, who string, patch func([]byte) ([]byte, error)) edit {
	return func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		if live == nil {
			return nil, notFound(t.kind, t.key())
		}
		text, err := live.MarshalJSON()
		if err != nil {
			return nil, err
		}
		text, err = patch(text)
		if err != nil {
			return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
		}
		next := &unstructured.Unstructured{}
		if err := next.UnmarshalJSON(text); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if err := fits(next, t); err != nil {
			return nil, err
		}
		return owned(t, live, next, who)
	}
}

// apply is a server-side apply: the writer's whole wish, by the rules of field
// ownership.
func apply(t target, body []byte, who string, force bool) (edit, error) {
	if who == "" {
		return nil, apierrors.NewBadRequest("server-side apply needs fieldManager")
	}
	wish := &unstructured.Unstructured{}
	text, err := yaml.YAMLToJSON(body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if err := wish.UnmarshalJSON(text); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if err := fits(wish, t); err != nil {
		return nil, err
	}
	return func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		uid, version := wish.GetUID(), wish.GetResourceVersion()
		if live == nil {
			if t.sub != "" {
				return nil, notFound(t.kind, t.key())
			}
			if uid != "" || version != "" {
				return nil, gone(t.kind, t.key(), uid)
			}
			live = &unstructured.Unstructured{}
			live.SetGroupVersionKind(t.kind.GroupVersionKind)
			live.SetName(t.name)
			live.SetNamespace(t.namespace)
		}
		got, err := t.fields().Apply(live.DeepCopy(), wish.DeepCopy(), who, force)
		if err != nil {
			return nil, err
		}
		next, err := object(got)
		if err != nil {
			return nil, err
		}
		if uid != "" {
			next.SetUID(uid)
		}
		if version != "" {
			next.SetResourceVersion(version)
		}
		return next, nil
	}, nil
}

// owned notes who has set the fields of an object by other means than apply; live is
// nil for a new one.
func owned(t target, live, next *unstructured.Unstructured, who string) (*unstructured.Unstructured, error) {
	if live == nil {
		live = &unstructured.Unstructured{}
		live.SetGroupVersionKind(t.kind.GroupVersionKind)
	}
	next = next.DeepCopy()
	t.kind.Default(next)
	got, err := t.fields().Update(live.DeepCopy(), next, who)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return object(got)
}

func (t target) fields() *managedfields.FieldManager {
	if t.sub == "status" {
		return t.kind.sub
	}
	return t.kind.main
}

func object(o any) (*unstructured.Unstructured, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("field ownership made a %T", o)
	}
	return u, nil
}

// manager is who writes, as far as it says.
func manager(r *http.Request) string {
	if who := r.URL.Query().Get("fieldManager"); who != "" {
		return who
	}
	who, _, _ := strings.Cut(r.UserAgent(), "/")
	return who
}
