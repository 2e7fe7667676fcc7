package gatewayagent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/network"
)

// callTimeout bounds a call to the gateway, which is on the same machine.
const callTimeout = 5 * time.Second

// reconciler does everything, for all objects at once. It runs in one goroutine.
type reconciler struct {
	client client.Client
	config Config
	log    *slog.Logger

	told time.Time // when connections were written last
}

func (r *reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	objects, err := r.read(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	status, compiled, err := r.bring(ctx, &objects)
	if apierrors.IsConflict(err) {
		return ctrl.Result{}, err // what was read is old: nothing is wrong, and it is all done again
	}
	if failed := r.tellGateway(ctx, objects, compiled, status, err); failed != nil {
		err = errors.Join(err, fmt.Errorf("status of Gateway %s: %w", r.config.Gateway, failed))
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: jitter(lookEvery)}, nil
}

func (r *reconciler) read(ctx context.Context) (o network.Objects, err error) {
	var gateways v1alpha1.GatewayList
	var vpcs v1alpha1.VPCList
	var subnets v1alpha1.SubnetList
	var nodes corev1.NodeList
	for _, list := range []client.ObjectList{&gateways, &vpcs, &subnets, &nodes} {
		if err := r.client.List(ctx, list); err != nil {
			return o, err
		}
	}
	o = network.Objects{Gateways: gateways.Items, VPCs: vpcs.Items, Subnets: subnets.Items, Nodes: map[string]network.Node{}}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		o.PodNodes = append(o.PodNodes, network.PodNodeOf(n))
		o.Nodes[n.Name] = network.Node{Ready: nodeReady(n), Labels: n.Labels, Address: addressOf(n)}
	}
	return o, nil
}

// bring makes the gateway what the objects say. It returns what it knows also with an
// error.
func (r *reconciler) bring(ctx context.Context, o *network.Objects) (*sluicev1.StatusResponse, *network.Result, error) {
	file, err := r.config.readFile()
	if err != nil {
		return nil, nil, err
	}
	gateway := api.Dial(file.API.Socket)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	status, err := gateway.Status(ctx, &sluicev1.StatusRequest{})
	if err != nil {
		return nil, nil, err
	}
	m := network.Machine{Cluster: r.config.Cluster, Gateway: r.config.Gateway, Endpoint: r.config.Endpoint, Node: r.config.Node, File: file, Attachment: r.config.Attachment}
	if err := m.PublicKey.UnmarshalText([]byte(status.GetPublicKey())); err != nil {
		return status, nil, fmt.Errorf("public key of the gateway: %w", err)
	}
	if err := r.sayWhoWeAre(ctx, o, m); err != nil {
		return status, nil, err
	}
	compiled, err := network.Compile(m, *o)
	if err != nil {
		return status, nil, err
	}
	if compiled.Gateways[r.config.Gateway].Active == r.config.Endpoint {
		if err := r.tellObjects(ctx, *o, compiled); err != nil {
			return status, compiled, err
		}
	}
	text, err := compiled.Config.Marshal()
	if err != nil {
		return status, compiled, err
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) == status.GetConfig().GetSha256() {
		return status, compiled, nil
	}
	answer, err := gateway.Apply(ctx, &sluicev1.ApplyRequest{Config: text, Name: "objects of cluster " + r.config.Cluster})
	if err != nil {
		return status, compiled, err
	}
	if len(answer.GetProblems()) > 0 {
		var lines []string
		for _, p := range answer.GetProblems() {
			lines = append(lines, p.GetPath()+": "+p.GetMessage())
		}
		return status, compiled, fmt.Errorf("the gateway refuses its configuration: %s", strings.Join(lines, "; "))
	}
	for _, change := range answer.GetChanges() {
		r.log.Info("applied", "change", change)
	}
	return status, compiled, nil
}

// sayWhoWeAre writes this machine into the status of its Gateway, with its public key,
// and takes those out that are none of its machines any more. What it wrote is in o, too.
func (r *reconciler) sayWhoWeAre(ctx context.Context, o *network.Objects, m network.Machine) error {
	for i := range o.Gateways {
		g := &o.Gateways[i]
		if g.Name != m.Gateway || g.DeletionTimestamp != nil {
			continue
		}
		for _, e := range g.Spec.Endpoints {
			if e.Name == m.Endpoint && e.PublicKey != "" && e.PublicKey != m.PublicKey.String() {
				return fmt.Errorf("spec.endpoints[%s].publicKey: is not the key of this gateway, which is %s: leave it out", e.Name, m.PublicKey)
			}
		}
		next := g.DeepCopy()
		said, ours := network.Said(m, g, o.Nodes)
		next.Status.Endpoints = slices.DeleteFunc(next.Status.Endpoints, func(s v1alpha1.EndpointStatus) bool {
			return s.Name == said.Name || network.Stale(g, s, o.Nodes)
		})
		if ours {
			next.Status.Endpoints = append(next.Status.Endpoints, said)
		}
		slices.SortFunc(next.Status.Endpoints, func(a, b v1alpha1.EndpointStatus) int { return strings.Compare(a.Name, b.Name) })
		if apiequality.Semantic.DeepEqual(next.Status, g.Status) {
			return nil
		}
		if err := r.client.Status().Update(ctx, next); err != nil {
			return fmt.Errorf("say in the status of Gateway %s who we are: %w", g.Name, err)
		}
		*g = *next
	}
	return nil
}

// addressOf is where others reach a node: its address outside of the cluster, if it has
// one.
func addressOf(n *corev1.Node) string {
	address := ""
	for _, a := range n.Status.Addresses {
		switch {
		case a.Type == corev1.NodeExternalIP:
			return a.Address
		case a.Type == corev1.NodeInternalIP && address == "":
			address = a.Address
		}
	}
	return address
}
