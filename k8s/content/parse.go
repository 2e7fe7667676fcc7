package content

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// maxObjects of one Mission: as many as the schema allows in resources.
const maxObjects = 1000

// Parse returns the objects of a Mission: those of manifests, then those of
// resources, namespaces and definitions of kinds before all others. What cannot be
// read is named with its place, all problems at once.
func Parse(spec v1alpha1.MissionSpec) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	var problems []error
	take := func(place string, object map[string]any) {
		u := &unstructured.Unstructured{Object: object}
		items, err := expand(u)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", place, err))
			return
		}
		for _, item := range items {
			if err := check(item); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", place, err))
				continue
			}
			objects = append(objects, item)
		}
	}

	documents := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(spec.Manifests)))
	for n := 1; ; n++ {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		place := fmt.Sprintf("manifests, document %d", n)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", place, err))
			break
		}
		object, err := decode(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", place, err))
		} else if object != nil {
			take(place, object)
		}
	}
	for i, resource := range spec.Resources {
		place := fmt.Sprintf("resources[%d]", i)
		object, err := decode(resource.Raw)
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("%s: %w", place, err))
		case object == nil:
			problems = append(problems, fmt.Errorf("%s: empty", place))
		default:
			take(place, object)
		}
	}
	if len(objects) > maxObjects {
		problems = append(problems, fmt.Errorf("%d objects: a Mission has at most %d", len(objects), maxObjects))
	}
	if len(objects) == 0 && len(problems) == 0 {
		problems = append(problems, errors.New("manifests: no object in it"))
	}
	seen := map[v1alpha1.ObjectName]bool{}
	for _, u := range objects {
		name := NameOf(u)
		if seen[name] {
			problems = append(problems, fmt.Errorf("%s is there twice", Words(name)))
		}
		seen[name] = true
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	return objects, nil
}

// decode returns nil for a document that holds nothing but comments.
func decode(text []byte) (map[string]any, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	if string(asJSON) == "null" {
		return nil, nil
	}
	if !bytes.HasPrefix(asJSON, []byte("{")) {
		return nil, errors.New("not an object")
	}
	// Numbers the way that API machinery has them: int64 where they are whole.
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(asJSON); err != nil {
		return nil, err
	}
	return u.Object, nil
}

// expand takes a List apart.
func expand(u *unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	if u.GetKind() != "List" || u.GetAPIVersion() != "v1" {
		return []*unstructured.Unstructured{u}, nil
	}
	items, _ := u.Object["items"].([]any)
	var objects []*unstructured.Unstructured
	for i, item := range items {
		object, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("items[%d] is not an object", i)
		}
		objects = append(objects, &unstructured.Unstructured{Object: object})
	}
	return objects, nil
}

// check refuses what could not be applied, whatever the cluster.
func check(u *unstructured.Unstructured) error {
	if _, err := schema.ParseGroupVersion(u.GetAPIVersion()); err != nil || u.GetAPIVersion() == "" {
		return fmt.Errorf("apiVersion %q is none", u.GetAPIVersion())
	}
	if u.GetKind() == "" {
		return errors.New("kind is missing")
	}
	metadata, ok := u.Object["metadata"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s: metadata is missing", u.GetKind())
	}
	if u.GetName() == "" {
		if u.GetGenerateName() != "" {
			return fmt.Errorf("%s: metadata.generateName would make a new object each time: set metadata.name", u.GetKind())
		}
		return fmt.Errorf("%s: metadata.name is missing", u.GetKind())
	}
	for _, field := range []string{"labels", "annotations"} {
		if metadata[field] == nil {
			continue
		}
		values, ok := metadata[field].(map[string]any)
		if !ok {
			return fmt.Errorf("%s: metadata.%s is no mapping", Words(NameOf(u)), field)
		}
		for key, value := range values {
			if _, ok := value.(string); !ok {
				return fmt.Errorf("%s: metadata.%s: %s is not a string: put it in quotes", Words(NameOf(u)), field, key)
			}
			if key == v1alpha1.LabelMission || key == v1alpha1.LabelMirrored {
				return fmt.Errorf("%s: metadata.%s: %s is set by Sluice itself", Words(NameOf(u)), field, key)
			}
		}
	}
	// What a copy of a live object drags along would be an order to the API server, and a wrong one.
	for _, field := range []string{"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"} {
		delete(metadata, field)
	}
	delete(u.Object, "status")
	return nil
}

// rank is small for what others need.
func rank(u *unstructured.Unstructured) int {
	switch kind := u.GroupVersionKind().GroupKind(); {
	case kind.Group == "" && kind.Kind == "Namespace":
		return 0
	case kind.Group == "apiextensions.k8s.io" && kind.Kind == "CustomResourceDefinition":
		return 1
	}
	return 2
}

// NameOf names an object.
func NameOf(u *unstructured.Unstructured) v1alpha1.ObjectName {
	return v1alpha1.ObjectName{APIVersion: u.GetAPIVersion(), Kind: u.GetKind(), Namespace: u.GetNamespace(), Name: u.GetName()}
}

// Words says an object's name for people: Deployment default/web.
func Words(n v1alpha1.ObjectName) string {
	if n.Namespace == "" {
		return n.Kind + " " + n.Name
	}
	return n.Kind + " " + n.Namespace + "/" + n.Name
}
