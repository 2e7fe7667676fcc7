package join

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// MaxName is as long as a cluster's name may be: its namespace has it, behind a
// prefix.
const MaxName = 63 - len(v1alpha1.NamespacePrefix)

// CheckName says what is wrong with the name of a cluster.
func CheckName(name string) error {
	for _, text := range validation.IsDNS1123Label(name) {
		return fmt.Errorf("cluster name %q: %s", name, text)
	}
	if len(name) > MaxName {
		return fmt.Errorf("cluster name %q: longer than %d characters", name, MaxName)
	}
	return nil
}

// Invitation is what an administrator of the parent asks for.
type Invitation struct {
	Name string        // of the cluster
	TTL  time.Duration // MinTTL to MaxTTL
	// Again lets a cluster of that name join that has joined before, and lost its key.
	Again bool
	// Server is the URL by which the cluster reaches the parent; empty, the administrator's own.
	Server string
}

// Invite makes an invitation with an administrator's rights at the parent, and
// returns it as a kubeconfig with a token: to be handed to whoever runs Join, as a
// secret.
func Invite(ctx context.Context, parent *rest.Config, i Invitation) (*clientcmdapi.Config, error) {
	if err := CheckName(i.Name); err != nil {
		return nil, err
	}
	if i.TTL < MinTTL || i.TTL > MaxTTL {
		return nil, fmt.Errorf("time to live %v: use %v to %v", i.TTL, MinTTL, MaxTTL)
	}
	admin, err := newClient(parent)
	if err != nil {
		return nil, err
	}
	err = admin.Get(ctx, client.ObjectKey{Name: i.Name}, &v1alpha1.EdgeCluster{})
	switch {
	case client.IgnoreNotFound(err) != nil:
		return nil, err
	case err == nil && !i.Again:
		return nil, errJoined(i.Name)
	}
	if err := sweep(ctx, admin); err != nil {
		return nil, fmt.Errorf("remove old invitations: %w", err)
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
		Namespace: NamespaceInvitations, GenerateName: i.Name + "-",
		Annotations: map[string]string{AnnotationCluster: i.Name, AnnotationExpires: time.Now().Add(i.TTL).UTC().Format(time.RFC3339)},
	}}
	if i.Again {
		sa.Annotations[AnnotationAgain] = "true"
	}
	if err := admin.Create(ctx, sa); err != nil {
		return nil, fmt.Errorf("make invitation: %w", err)
	}
	token := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(i.TTL / time.Second))}}
	if err := admin.SubResource("token").Create(ctx, sa, token); err != nil {
		return nil, fmt.Errorf("make token: %w", err)
	}
	reached := rest.CopyConfig(parent)
	if i.Server != "" {
		reached.Host = i.Server
	}
	c, err := skeleton(reached)
	if err != nil {
		return nil, err
	}
	c.AuthInfos[theUser] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	return c, nil
}

func errJoined(name string) error {
	return fmt.Errorf("a cluster named %s has joined already: use another name, or --again if it is the same one and has lost its key", name)
}

// sweep removes invitations whose time is over.
func sweep(ctx context.Context, admin client.Client) error {
	var list corev1.ServiceAccountList
	if err := admin.List(ctx, &list, client.InNamespace(NamespaceInvitations)); err != nil {
		return err
	}
	for i := range list.Items {
		sa := &list.Items[i]
		expires, err := time.Parse(time.RFC3339, sa.Annotations[AnnotationExpires])
		if err != nil || time.Now().Before(expires) {
			continue // not ours, or still open
		}
		if err := admin.Delete(ctx, sa); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// Names inside of the kubeconfigs that we write.
const (
	theCluster = "parent"
	theUser    = "sluice"
)

// skeleton is a kubeconfig of the parent without credentials.
func skeleton(parent *rest.Config) (*clientcmdapi.Config, error) {
	parent = rest.CopyConfig(parent)
	if err := rest.LoadTLSFiles(parent); err != nil {
		return nil, err
	}
	if parent.Insecure {
		return nil, fmt.Errorf("API server %s: its certificate is not checked (insecure-skip-tls-verify); a cluster does not join that way", parent.Host)
	}
	c := clientcmdapi.NewConfig()
	c.Clusters[theCluster] = &clientcmdapi.Cluster{Server: parent.Host, CertificateAuthorityData: parent.CAData, TLSServerName: parent.ServerName}
	c.Contexts[theCluster] = &clientcmdapi.Context{Cluster: theCluster, AuthInfo: theUser}
	c.CurrentContext = theCluster
	return c, nil
}

// Write returns a kubeconfig as text.
func Write(c *clientcmdapi.Config) ([]byte, error) { return clientcmd.Write(*c) }
