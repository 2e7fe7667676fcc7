package network

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

const maxVNI = 1<<24 - 1

// byAge orders objects: the older one has the better right. Of two that were made in
// the same second, which is as exact as Kubernetes is, the one whose name comes first.
func byAge(a, b metav1.Object) int {
	return cmp.Or(a.GetCreationTimestamp().Time.Compare(b.GetCreationTimestamp().Time), cmp.Compare(a.GetName(), b.GetName()))
}

// number gives each VPC its number: the one that it says, else the one that it has,
// else the smallest that is free. Of two that say the same, the older one has it.
func (c *compiler) number() {
	taken := map[int32]string{} // who has it, in words
	names := map[string]bool{config.DefaultVPC: true}
	for _, v := range c.machine.File.VPCs {
		taken[int32(v.VNI)] = "VPC " + v.Name + " of the gateway's own file"
		names[v.Name] = true
	}
	var without []*v1alpha1.VPC
	for i := range c.objects.VPCs {
		v := &c.objects.VPCs[i]
		switch who := ""; {
		case c.refused["VPC "+v.Name] != nil:
			c.result.VPCs[v.Name] = VPC{Problem: c.refused["VPC "+v.Name]}
		case v.Name == config.DefaultVPC:
			c.badVPC(v, ReasonInvalid, "metadata.name: %q is kept for the VPC without a number", v.Name)
		case names[v.Name]:
			c.badVPC(v, ReasonInvalid, "metadata.name: the gateway's own file has a VPC %s already", v.Name)
		case v.Spec.VNI != nil:
			if who = taken[*v.Spec.VNI]; who != "" {
				c.badVPC(v, ReasonDuplicateVNI, "spec.vni: %d is the number of %s already: give another, or none", *v.Spec.VNI, who)
				continue
			}
			c.hasVNI(v, *v.Spec.VNI, taken)
		case v.Status.VNI > 0 && v.Status.VNI <= maxVNI && taken[v.Status.VNI] == "":
			c.hasVNI(v, v.Status.VNI, taken)
		default:
			without = append(without, v)
		}
	}
	next := int32(1)
	for _, v := range without {
		for next <= maxVNI && taken[next] != "" {
			next++
		}
		if next > maxVNI {
			c.badVPC(v, ReasonInvalid, "spec.vni: all numbers are taken")
			continue
		}
		c.hasVNI(v, next, taken)
	}
}

func (c *compiler) hasVNI(v *v1alpha1.VPC, vni int32, taken map[int32]string) {
	taken[vni] = "VPC " + v.Name
	c.result.VPCs[v.Name] = VPC{VNI: vni}
}

func (c *compiler) badVPC(v *v1alpha1.VPC, reason, format string, args ...any) {
	c.result.VPCs[v.Name] = VPC{Problem: &Problem{reason, fmt.Sprintf(format, args...)}}
}

// sorted returns the objects that are not being deleted, the oldest first.
func sorted[T any, P interface {
	*T
	metav1.Object
}](list []T) []T {
	list = slices.DeleteFunc(slices.Clone(list), func(o T) bool { return P(&o).GetDeletionTimestamp() != nil })
	slices.SortFunc(list, func(a, b T) int { return byAge(P(&a), P(&b)) })
	return list
}
