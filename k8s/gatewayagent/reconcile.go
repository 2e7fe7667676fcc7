package gatewayagent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/network"
)

// callTimeout bounds a call to the gateway, which is on the same machine.
const callTimeout = 5 * time.Second

// ownerKey and the name of an endpoint is who has set its public key, as the API server sees it: what one owner does not
// say again is taken away.
const ownerKey = "sluice-gateway-"

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
	status, compiled, err := r.bring(ctx, objects)
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
	o = network.Objects{Gateways: gateways.Items, VPCs: vpcs.Items, Subnets: subnets.Items, NotReady: map[string]bool{}}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		o.PodNodes = append(o.PodNodes, network.PodNodeOf(n))
		if !nodeReady(n) {
			o.NotReady[n.Name] = true
		}
	}
	return o, nil
}

// bring makes the gateway what the objects say. It returns what it knows also with an
// error.
func (r *reconciler) bring(ctx context.Context, objects network.Objects) (*sluicev1.StatusResponse, *network.Result, error) {
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
	m := network.Machine{Cluster: r.config.Cluster, Gateway: r.config.Gateway, Endpoint: r.config.Endpoint, File: file, Attachment: r.config.Attachment}
	if err := m.PublicKey.UnmarshalText([]byte(status.GetPublicKey())); err != nil {
		return status, nil, fmt.Errorf("public key of the gateway: %w", err)
	}
	if err := r.publishKey(ctx, objects, m.PublicKey); err != nil {
		return status, nil, err
	}
	compiled, err := network.Compile(m, objects)
	if err != nil {
		return status, nil, err
	}
	// A number is written down before it is used, so that nobody gives it away.
	if compiled.Gateways[r.config.Gateway].Active == r.config.Endpoint {
		if err := r.tellObjects(ctx, objects, compiled); err != nil {
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

// publishKey writes the gateway's public key into its endpoint, unless somebody gave
// one already.
func (r *reconciler) publishKey(ctx context.Context, objects network.Objects, key config.PublicKey) error {
	for i := range objects.Gateways {
		g := &objects.Gateways[i]
		if g.Name != r.config.Gateway || g.DeletionTimestamp != nil {
			continue
		}
		for _, e := range g.Spec.Endpoints {
			switch {
			case e.Name != r.config.Endpoint || e.PublicKey == key.String():
			case e.PublicKey != "":
				return fmt.Errorf("spec.endpoints[%s].publicKey: is not the key of this gateway, which is %s", e.Name, key)
			default:
				body, err := json.Marshal(map[string]any{
					"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Gateway",
					"metadata": map[string]any{"name": g.Name, "uid": g.UID}, // so that one that is gone is not made again
					"spec":     map[string]any{"endpoints": []any{map[string]any{"name": e.Name, "publicKey": key.String()}}},
				})
				if err != nil {
					return err
				}
				into := &v1alpha1.Gateway{}
				into.Name = g.Name
				if err := r.client.Patch(ctx, into, client.RawPatch(types.ApplyPatchType, body), client.FieldOwner(ownerKey+e.Name)); err != nil {
					return fmt.Errorf("write the public key into Gateway %s: %w", g.Name, err)
				}
			}
		}
	}
	return nil
}
