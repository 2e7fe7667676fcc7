package manifests

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestEverythingIsThere(t *testing.T) {
	objects, err := Objects()
	if err != nil {
		t.Fatal(err)
	}
	var kinds, roles []string
	lastCRD, lastNamespace, first := -1, -1, len(objects)
	for i, u := range objects {
		switch u.GetKind() {
		case "CustomResourceDefinition":
			lastCRD = i
			kind, _, _ := unstructured.NestedString(u.Object, "spec", "names", "kind")
			kinds = append(kinds, kind)
			versions, _, _ := unstructured.NestedSlice(u.Object, "spec", "versions")
			for _, v := range versions {
				if schema, ok, _ := unstructured.NestedMap(v.(map[string]any), "schema", "openAPIV3Schema"); !ok || schema["type"] != "object" {
					t.Errorf("%s has no structural schema", kind)
				}
			}
		case "Namespace":
			lastNamespace = i
		case "ClusterRole":
			roles = append(roles, u.GetName())
		}
		if u.GetNamespace() != "" {
			first = min(first, i)
		}
	}
	slices.Sort(kinds)
	slices.Sort(roles)
	if want := []string{"ClusterReport", "EdgeCluster", "Gateway", "Mission", "MissionReport", "Subnet", "VPC"}; !slices.Equal(kinds, want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
	if want := []string{"sluice:agent", "sluice:child", "sluice:child-reports", "sluice:gateway", "sluice:invited", "sluice:mission-content", "sluice:node"}; !slices.Equal(roles, want) {
		t.Errorf("roles %v, want %v", roles, want)
	}
	if lastCRD > lastNamespace || lastNamespace > first {
		t.Errorf("applied in this order, something is not there when it is needed: kinds to %d, namespaces to %d, objects in them from %d", lastCRD, lastNamespace, first)
	}
}

// The agent may not do everything: that would make all other rules pointless.
func TestNobodyMayDoEverything(t *testing.T) {
	objects, err := Objects()
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range objects {
		if u.GetKind() != "ClusterRole" && u.GetKind() != "Role" {
			continue
		}
		rules, _, _ := unstructured.NestedSlice(u.Object, "rules")
		for _, rule := range rules {
			for _, field := range []string{"apiGroups", "resources", "verbs"} {
				if values, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), field); slices.Contains(values, "*") {
					t.Errorf("%s %s: %s has a star", u.GetKind(), u.GetName(), field)
				}
			}
		}
	}
}
