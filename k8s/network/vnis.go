package network

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

const maxVNI = 1<<24 - 1

// byAge orders objects, those with the better right first: what came from above, then
// the older one, then, of two that were made in the same second, which is as exact as
// Kubernetes is, the one whose name comes first. For what came from above this order
// is the same in all clusters.
func byAge(a, b metav1.Object) int {
	below := func(o metav1.Object) int {
		if mirrored(o) {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(below(a), below(b)), created(a).Compare(created(b)), cmp.Compare(a.GetName(), b.GetName()))
}

// mirrored reports whether an object came from above.
func mirrored(o metav1.Object) bool { return o.GetLabels()[v1alpha1.LabelMirrored] != "" }

// created is when an object was made, also if that was in a cluster above.
func created(o metav1.Object) time.Time {
	if mirrored(o) {
		if t, err := time.Parse(time.RFC3339, o.GetAnnotations()[v1alpha1.AnnotationCreated]); err == nil {
			return t
		}
	}
	return o.GetCreationTimestamp().Time
}

// Number gives each VPC its number: the one that it says, else the one that it has,
// else one that is free: the smallest at the top of a tree, and the largest elsewhere, so
// that VPCs which are made above find theirs free. Of two with the same, the one with the
// better right has it. It is for the cluster's agent; gateways take what that one says.
func Number(vpcs []v1alpha1.VPC, top bool) map[string]VPC {
	list := pointers(sorted(vpcs))
	taken := map[int32]string{}
	result, without := numbers(list, taken)
	next, step := int32(1), int32(1)
	if !top {
		next, step = maxVNI, -1
	}
	for _, v := range without {
		for next >= 1 && next <= maxVNI && taken[next] != "" {
			next += step
		}
		if next < 1 || next > maxVNI {
			result[v.Name] = VPC{Problem: &Problem{ReasonInvalid, "spec.vni: all numbers are taken"}}
			continue
		}
		taken[next] = v.Name
		result[v.Name] = VPC{VNI: next}
	}
	return result
}

// numbers finds out which number each of the VPCs has, the one with the best right
// first. taken says, in words, who has a number; it grows.
func numbers(vpcs []*v1alpha1.VPC, taken map[int32]string) (result map[string]VPC, without []*v1alpha1.VPC) {
	result = map[string]VPC{}
	for _, v := range vpcs {
		vni := v.Status.VNI
		if v.Spec.VNI != nil {
			vni = *v.Spec.VNI
		}
		who := taken[vni]
		switch {
		case v.Spec.VNI != nil && who != "":
			result[v.Name] = VPC{Problem: &Problem{ReasonDuplicateVNI, fmt.Sprintf("spec.vni: %d is the number of %s already: give another, or none", vni, who)}}
			continue
		case v.Spec.VNI == nil && mirrored(v):
			result[v.Name] = VPC{Problem: &Problem{ReasonDuplicateVNI, "spec.vni: another VPC has its number in the cluster above"}}
			continue
		case v.Spec.VNI == nil && (vni <= 0 || vni > maxVNI || who != ""):
			without = append(without, v)
			continue
		}
		taken[vni] = "VPC " + v.Name
		result[v.Name] = VPC{VNI: vni}
	}
	return result, without
}

// number takes the numbers that VPCs have, as far as the gateway's own file lets them.
func (c *compiler) number() {
	taken := map[int32]string{}
	names := map[string]bool{config.DefaultVPC: true}
	for _, v := range c.machine.File.VPCs {
		taken[int32(v.VNI)] = "VPC " + v.Name + " of the gateway's own file"
		names[v.Name] = true
	}
	var list []*v1alpha1.VPC
	for i := range c.objects.VPCs {
		v := &c.objects.VPCs[i]
		switch {
		case c.refused["VPC "+v.Name] != nil:
			c.result.VPCs[v.Name] = VPC{Problem: c.refused["VPC "+v.Name]}
		case v.Name == config.DefaultVPC:
			c.badVPC(v, ReasonInvalid, "metadata.name: %q is kept for the VPC without a number", v.Name)
		case names[v.Name]:
			c.badVPC(v, ReasonInvalid, "metadata.name: the gateway's own file has a VPC %s already", v.Name)
		default:
			list = append(list, v)
		}
	}
	result, without := numbers(list, taken)
	for name, v := range result {
		c.result.VPCs[name] = v
	}
	for _, v := range without {
		if who := taken[v.Status.VNI]; v.Status.VNI > 0 && who != "" {
			c.badVPC(v, ReasonDuplicateVNI, "status.vni: %d is the number of %s already: set its spec.vni", v.Status.VNI, who)
			continue
		}
		c.badVPC(v, ReasonNotReady, "spec.vni: it has no number yet: this cluster's agent gives it one")
	}
}

func (c *compiler) badVPC(v *v1alpha1.VPC, reason, format string, args ...any) {
	c.result.VPCs[v.Name] = VPC{Problem: &Problem{reason, fmt.Sprintf(format, args...)}}
}

// sorted returns the objects that are not being deleted, that with the best right first.
func sorted[T any, P interface {
	*T
	metav1.Object
}](list []T) []T {
	list = slices.DeleteFunc(slices.Clone(list), func(o T) bool { return P(&o).GetDeletionTimestamp() != nil })
	slices.SortFunc(list, func(a, b T) int { return byAge(P(&a), P(&b)) })
	return list
}

func pointers[T any](list []T) []*T {
	var to []*T
	for i := range list {
		to = append(to, &list[i])
	}
	return to
}
