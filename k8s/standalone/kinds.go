package standalone

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/sluicegw/sluice/k8s/manifests"
)

// kind is one of those that a Site has. It does not change.
type kind struct {
	schema.GroupVersionKind
	plural     string
	namespaced bool
	status     bool         // has a status subresource
	schema     *spec.Schema // nil: anything goes
	validator  *validate.SchemaValidator
	main, sub  *managedfields.FieldManager // of the object, and of its status
}

// catalogue is all kinds, by group, version and plural as in a URL.
type catalogue map[schema.GroupVersionResource]*kind

// kinds reads the manifests, once for all Sites.
var kinds = sync.OnceValues(newCatalogue)

// ours are the kinds of our own that a site without children can have.
var ours = map[string]bool{"Mission": true, "EdgeCluster": true, "VPC": true, "Subnet": true, "Gateway": true}

func newCatalogue() (catalogue, error) {
	all := catalogue{}
	for _, k := range []*kind{
		{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, plural: "namespaces"},
		{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, plural: "configmaps", namespaced: true},
		{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Node"}, plural: "nodes"},
	} {
		if err := all.add(k, managedfields.NewDeducedTypeConverter()); err != nil {
			return nil, err
		}
	}
	objects, err := manifests.Objects()
	if err != nil {
		return nil, err
	}
	for _, u := range objects {
		if u.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if err := all.define(u); err != nil {
			return nil, fmt.Errorf("%s: %w", u.GetName(), err)
		}
	}
	return all, nil
}

// define adds the kind of a CustomResourceDefinition, if we have it.
func (c catalogue) define(u *unstructured.Unstructured) error {
	text, err := u.MarshalJSON()
	if err != nil {
		return err
	}
	var definition struct {
		Spec struct {
			Group string
			Scope string
			Names struct{ Kind, Plural string }
			// Versions: there is one of each kind.
			Versions []struct {
				Name         string
				Schema       struct{ OpenAPIV3Schema *spec.Schema }
				Subresources struct{ Status *struct{} }
			}
		}
	}
	if err := json.Unmarshal(text, &definition); err != nil {
		return err
	}
	d := definition.Spec
	if !ours[d.Names.Kind] {
		return nil
	}
	if len(d.Versions) != 1 || d.Versions[0].Schema.OpenAPIV3Schema == nil {
		return errors.New("want one version with a schema")
	}
	v := d.Versions[0]
	k := &kind{
		GroupVersionKind: schema.GroupVersionKind{Group: d.Group, Version: v.Name, Kind: d.Names.Kind},
		plural:           d.Names.Plural, namespaced: d.Scope == "Namespaced", status: v.Subresources.Status != nil,
		schema: v.Schema.OpenAPIV3Schema,
	}
	k.validator = validate.NewSchemaValidator(k.schema, nil, "", strfmt.Default)
	model := *k.schema
	model.Properties = map[string]spec.Schema{}
	for name, property := range k.schema.Properties {
		model.Properties[name] = property
	}
	model.Properties["metadata"] = objectMeta
	model.VendorExtensible = spec.VendorExtensible{Extensions: spec.Extensions{"x-kubernetes-group-version-kind": []any{
		map[string]any{"group": k.Group, "version": k.Version, "kind": k.Kind},
	}}}
	converter, err := managedfields.NewTypeConverter(map[string]*spec.Schema{k.Kind: &model}, false)
	if err != nil {
		return err
	}
	return c.add(k, converter)
}

func (c catalogue) add(k *kind, converter managedfields.TypeConverter) (err error) {
	kept := func(others ...string) map[fieldpath.APIVersion]fieldpath.Filter {
		set := fieldpath.NewSet()
		for _, name := range others {
			set.Insert(fieldpath.MakePathOrDie(name))
		}
		return map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(k.GroupVersion().String()): fieldpath.NewExcludeSetFilter(set)}
	}
	fields := func(sub string, reset map[fieldpath.APIVersion]fieldpath.Filter) (*managedfields.FieldManager, error) {
		return managedfields.NewDefaultCRDFieldManager(converter, asIs{}, k, asIs{}, k.GroupVersionKind, k.GroupVersion(), sub, reset)
	}
	reset := map[fieldpath.APIVersion]fieldpath.Filter(nil)
	if k.status {
		reset = kept("status")
	}
	if k.main, err = fields("", reset); err != nil {
		return err
	}
	if k.sub, err = fields("status", kept("metadata", "spec")); err != nil {
		return err
	}
	c[k.GroupVersion().WithResource(k.plural)] = k
	return nil
}

// objectMeta is what field ownership has to know of metadata: what is merged, and by
// which keys.
var objectMeta = func() spec.Schema {
	of := func(kind string) spec.Schema {
		return spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{kind}}}
	}
	mapOfStrings, text := of("object"), of("string")
	mapOfStrings.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: &text}
	listOf := func(item spec.Schema, extensions spec.Extensions) spec.Schema {
		list := of("array")
		list.Items = &spec.SchemaOrArray{Schema: &item}
		list.Extensions = extensions
		return list
	}
	owner := of("object")
	owner.Properties = map[string]spec.Schema{
		"apiVersion": text, "kind": text, "name": text, "uid": text, "controller": of("boolean"), "blockOwnerDeletion": of("boolean"),
	}
	meta := of("object")
	meta.Properties = map[string]spec.Schema{
		"labels": mapOfStrings, "annotations": mapOfStrings,
		"finalizers":      listOf(text, spec.Extensions{"x-kubernetes-list-type": "set"}),
		"ownerReferences": listOf(owner, spec.Extensions{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": []any{"uid"}}),
		"generation":      of("integer"), "deletionGracePeriodSeconds": of("integer"),
	}
	entry := of("object")
	entry.Extensions = spec.Extensions{"x-kubernetes-preserve-unknown-fields": true}
	meta.Properties["managedFields"] = listOf(entry, spec.Extensions{"x-kubernetes-list-type": "atomic"})
	for _, name := range strings.Fields("name namespace generateName selfLink uid resourceVersion creationTimestamp deletionTimestamp") {
		meta.Properties[name] = text
	}
	return meta
}()

// asIs is for objects that have one version.
type asIs struct{}

func (asIs) Convert(in, out, _ any) error {
	return fmt.Errorf("convert %T to %T: there is one version of everything", in, out)
}

func (asIs) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}

func (asIs) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

func (asIs) New(k schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(k)
	return u, nil
}

// Default sets what the schema has defaults for.
func (k *kind) Default(o runtime.Object) {
	if u, ok := o.(*unstructured.Unstructured); ok && k.schema != nil {
		setDefaults(u.Object, k.schema)
	}
}

func setDefaults(value any, s *spec.Schema) {
	switch value := value.(type) {
	case map[string]any:
		for name := range s.Properties {
			property := s.Properties[name]
			if _, there := value[name]; !there && property.Default != nil {
				value[name] = runtime.DeepCopyJSONValue(whole(property.Default))
			}
			if v, there := value[name]; there {
				setDefaults(v, &property)
			}
		}
		if more := s.AdditionalProperties; more != nil && more.Schema != nil {
			for name, v := range value {
				if _, known := s.Properties[name]; !known {
					setDefaults(v, more.Schema)
				}
			}
		}
	case []any:
		if s.Items != nil && s.Items.Schema != nil {
			for _, item := range value {
				setDefaults(item, s.Items.Schema)
			}
		}
	}
}

// whole makes integers of the numbers that JSON made floats of, as objects have them.
func whole(v any) any {
	if f, ok := v.(float64); ok && f == float64(int64(f)) {
		return int64(f)
	}
	return v
}
