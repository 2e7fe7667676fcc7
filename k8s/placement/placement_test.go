package placement

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

func named(names ...string) (list []v1alpha1.ClusterName) {
	for _, n := range names {
		list = append(list, v1alpha1.ClusterName{Name: n})
	}
	return list
}

func requires(key string, op metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
}

func TestMatches(t *testing.T) {
	c := Cluster{Name: "c", Path: "a/b/c", Labels: map[string]string{"region": "north", "site": "oslo"}}
	tests := []struct {
		name string
		p    v1alpha1.Placement
		want bool
	}{
		{"nothing said selects every cluster", v1alpha1.Placement{}, true},
		{"an empty selector selects every cluster", v1alpha1.Placement{Selector: &metav1.LabelSelector{}}, true},
		{"its name", v1alpha1.Placement{Clusters: named("x", "c")}, true},
		{"other names", v1alpha1.Placement{Clusters: named("x", "a")}, false},
		{"the end of a name is no name", v1alpha1.Placement{Clusters: named("cc")}, false},
		{"the end of its path", v1alpha1.Placement{Clusters: named("b/c")}, true},
		{"its whole path", v1alpha1.Placement{Clusters: named("a/b/c")}, true},
		{"half a name of its path", v1alpha1.Placement{Clusters: named("bb/c")}, false},
		{"the path of its parent", v1alpha1.Placement{Clusters: named("a/b")}, false},
		{"all labels of the selector", v1alpha1.Placement{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"region": "north", "site": "oslo"}}}, true},
		{"one label of the selector is not enough", v1alpha1.Placement{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"region": "north", "site": "bergen"}}}, false},
		{"In", v1alpha1.Placement{Selector: requires("region", "In", "south", "north")}, true},
		{"NotIn with its value", v1alpha1.Placement{Selector: requires("region", "NotIn", "north")}, false},
		{"NotIn with a label it lacks", v1alpha1.Placement{Selector: requires("org", "NotIn", "x")}, true},
		{"Exists", v1alpha1.Placement{Selector: requires("site", "Exists")}, true},
		{"DoesNotExist", v1alpha1.Placement{Selector: requires("site", "DoesNotExist")}, false},
		{"labels, though the names are others", v1alpha1.Placement{Clusters: named("x"), Selector: requires("site", "Exists")}, true},
		{"its name, though the labels are others", v1alpha1.Placement{Clusters: named("c"), Selector: requires("site", "DoesNotExist")}, true},
		{"neither name nor labels", v1alpha1.Placement{Clusters: named("x"), Selector: requires("site", "DoesNotExist")}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Matches(tt.p, c)
			if err != nil || got != tt.want {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestASelectorThatMeansNothingIsAnError(t *testing.T) {
	got, err := Matches(v1alpha1.Placement{Selector: requires("site", "In")}, Cluster{Name: "c"})
	if got || err == nil || !strings.Contains(err.Error(), "placement.selector") {
		t.Errorf("got %v, %v", got, err)
	}
}
