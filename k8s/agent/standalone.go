package agent

import (
	"context"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/standalone"
)

// DistroStandalone is Options.Distro of a standalone site.
const DistroStandalone = "standalone"

// errNoAPIServer is about objects that only Kubernetes could do something with.
var errNoAPIServer = errors.New("not possible here: this is a standalone site without Kubernetes, which takes commands, VPCs, Subnets and Gateways")

// possible says why Missions cannot bring objects of a kind here.
func (a *Agent) possible(kind schema.GroupVersionKind) error {
	if a.options.Standalone == nil || kind.GroupVersion() == v1alpha1.GroupVersion && slices.Contains([]string{"VPC", "Subnet", "Gateway"}, kind.Kind) {
		return nil
	}
	return errNoAPIServer
}

// well makes the question that the heartbeat asks: how this cluster is.
func (a *Agent) well() (func(context.Context) (version string, err error), error) {
	if site := a.options.Standalone; site != nil {
		return func(context.Context) (string, error) { return standalone.Version, site.Well() }, nil
	}
	limited := rest.CopyConfig(a.options.Own)
	limited.Timeout = probeTimeout
	asks, err := discovery.NewDiscoveryClientForConfig(limited)
	return probe{asks}.well, err
}
