package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/join"
)

// joining judges what asks to be a cluster: the first time with an invitation, later
// with the certificate that it has.
type joining struct {
	client client.Client
	fresh  client.Reader // two at once must not find that a name is free
	log    *slog.Logger
}

func (r *joining) setUp(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("joining").WithOptions(options(1)).
		For(&certificatesv1.CertificateSigningRequest{}).Complete(r)
}

func (r *joining) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var csr certificatesv1.CertificateSigningRequest
	if err := r.client.Get(ctx, req.NamespacedName, &csr); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	name, ours := join.Asks(&csr)
	if !ours || len(csr.Status.Conditions) > 0 {
		return ctrl.Result{}, nil
	}
	c := join.Case{Request: &csr}
	var cluster v1alpha1.EdgeCluster
	err := r.fresh.Get(ctx, client.ObjectKey{Name: name}, &cluster)
	switch {
	case err == nil:
		c.Cluster = &cluster
	case name != "" && client.IgnoreNotFound(err) != nil:
		return ctrl.Result{}, err
	}
	if account, ok := join.InvitationOf(csr.Spec.Username); ok {
		var sa corev1.ServiceAccount
		err := r.fresh.Get(ctx, client.ObjectKey{Namespace: join.NamespaceInvitations, Name: account}, &sa)
		if client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, err
		}
		if err == nil && string(sa.UID) == csr.Spec.UID {
			c.Invitation = &sa
		}
	}
	verdict := join.Judge(c)
	if verdict == nil && c.Invitation != nil {
		if err := r.enter(ctx, name, c); err != nil {
			return ctrl.Result{}, err
		}
	}
	condition := certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Sluice", Message: "cluster " + name + " may join", LastUpdateTime: metav1.Now(),
	}
	if verdict != nil {
		condition.Type, condition.Message = certificatesv1.CertificateDenied, verdict.Error()
	}
	csr.Status.Conditions = append(csr.Status.Conditions, condition)
	if err := r.client.SubResource("approval").Update(ctx, &csr); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return ctrl.Result{RequeueAfter: time.Second}, nil
		}
		return ctrl.Result{}, fmt.Errorf("answer signing request %s: %w", csr.Name, err)
	}
	r.log.Info("answered a signing request", "name", csr.Name, "cluster", name, "user", csr.Spec.Username, "answer", condition.Type, "reason", condition.Message)
	return ctrl.Result{}, nil
}

// enter writes down that a cluster joins with this invitation.
func (r *joining) enter(ctx context.Context, name string, c join.Case) error {
	annotations := map[string]string{join.AnnotationInvitation: string(c.Invitation.UID), annotationInvited: c.Invitation.Name}
	if c.Cluster == nil {
		fresh := &v1alpha1.EdgeCluster{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
		return r.client.Create(ctx, fresh) // AlreadyExists: judged anew
	}
	w := sluice("EdgeCluster", "", name)
	w.Metadata.Annotations = annotations
	w.Metadata.Finalizers = []string{v1alpha1.FinalizerChild}
	return w.apply(ctx, r.client, &v1alpha1.EdgeCluster{}, ownerJoining)
}

// annotationInvited is the name of the ServiceAccount of an EdgeCluster's invitation.
const annotationInvited = "sluice.dev/invited"

// ownerJoining sets the annotations of an EdgeCluster that joins again.
const ownerJoining = client.FieldOwner("sluice-joining")

// useUp removes the invitation of a child that has reported: it has its certificate.
func useUp(ctx context.Context, c client.Client, e *v1alpha1.EdgeCluster) error {
	account := e.Annotations[annotationInvited]
	if account == "" {
		return nil
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: join.NamespaceInvitations, Name: account}}
	uid := types.UID(e.Annotations[join.AnnotationInvitation])
	err := c.Delete(ctx, sa, client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("remove invitation %s: %w", account, err)
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, annotationInvited)
	return c.Patch(ctx, e, client.RawPatch(types.MergePatchType, []byte(patch)))
}

// renew keeps the certificate fresh that the parent knows this cluster by.
func (a *Agent) renew(ctx context.Context) {
	for failures := 0; ; {
		limited, cancel := context.WithTimeout(ctx, 5*time.Minute)
		wait, err := join.Renew(limited, a.options.Parent, a.options.Certificate, time.Now())
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.log.Warn("renew the certificate for the parent", "error", err)
			wait = min(time.Second<<min(failures, 12), time.Hour)
			failures++
		default:
			failures = 0
			wait = min(wait, time.Hour) // clocks are set
		}
		if !sleep(ctx, jitter(wait)) {
			return
		}
	}
}
