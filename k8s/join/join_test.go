package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

const invited = "system:serviceaccount:sluice-invitations:b-x1"

type asks struct {
	from   string
	groups []string
	name   string
	orgs   []string
	dns    []string
	usages []certificatesv1.KeyUsage
	signer string
}

func (a asks) request(t *testing.T) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if a.orgs == nil {
		a.orgs = []string{v1alpha1.GroupClusters}
	}
	if a.usages == nil {
		a.usages = []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}
	}
	if a.signer == "" {
		a.signer = certificatesv1.KubeAPIServerClientSignerName
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: a.name, Organization: a.orgs}, DNSNames: a.dns}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: a.signer, Usages: a.usages, Username: a.from, Groups: a.groups,
	}}
}

func TestJudge(t *testing.T) {
	account := func(uid, name string, again bool) *corev1.ServiceAccount {
		sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Annotations: map[string]string{AnnotationCluster: name}}}
		if again {
			sa.Annotations[AnnotationAgain] = "true"
		}
		return sa
	}
	cluster := func(invitation string) *v1alpha1.EdgeCluster {
		return &v1alpha1.EdgeCluster{ObjectMeta: metav1.ObjectMeta{Name: "b", Annotations: map[string]string{AnnotationInvitation: invitation}}}
	}
	leaving := cluster("1")
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	clusters := []string{v1alpha1.GroupClusters, "system:authenticated"}
	tests := []struct {
		name       string
		asks       asks
		invitation *corev1.ServiceAccount
		cluster    *v1alpha1.EdgeCluster
		want       string // "" to approve
	}{
		{"who was invited joins", asks{from: invited, name: "sluice:cluster:b"}, account("1", "b", false), nil, ""},
		{"who was cut off half-way asks again with the same invitation", asks{from: invited, name: "sluice:cluster:b"}, account("1", "b", false), cluster("1"), ""},
		{"a second cluster of the same name", asks{from: invited, name: "sluice:cluster:b"}, account("2", "b", false), cluster("1"), "a cluster named b has joined already"},
		{"the same cluster again, as the administrator allows", asks{from: invited, name: "sluice:cluster:b"}, account("2", "b", true), cluster("1"), ""},
		{"another name than the invitation's", asks{from: invited, name: "sluice:cluster:c"}, account("1", "b", false), nil, `for "b", not for "c"`},
		{"no invitation", asks{from: "system:serviceaccount:default:x", name: "sluice:cluster:b"}, nil, nil, "has no invitation"},
		{"its next certificate", asks{from: "sluice:cluster:b", groups: clusters, name: "sluice:cluster:b"}, nil, cluster("1"), ""},
		{"somebody else's certificate", asks{from: "sluice:cluster:c", groups: clusters, name: "sluice:cluster:b"}, nil, cluster("1"), "sluice:cluster:c has no invitation"},
		{"a next one after it was removed", asks{from: "sluice:cluster:b", groups: clusters, name: "sluice:cluster:b"}, nil, nil, "has been removed"},
		{"a next one while it is removed", asks{from: "sluice:cluster:b", groups: clusters, name: "sluice:cluster:b"}, nil, leaving, "is being removed"},
		{"more groups", asks{from: invited, name: "sluice:cluster:b", orgs: []string{v1alpha1.GroupClusters, "system:masters"}}, account("1", "b", false), nil, "in no other"},
		{"the group without the name", asks{from: invited, name: "admin"}, account("1", "b", false), nil, "is for clusters"},
		{"other names beside", asks{from: invited, name: "sluice:cluster:b", dns: []string{"x"}}, account("1", "b", false), nil, "no other names"},
		{"other usages", asks{from: invited, name: "sluice:cluster:b", usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth}}, account("1", "b", false), nil, "client auth"},
		{"a name that is none", asks{from: invited, name: "sluice:cluster:B/../x"}, account("1", "B/../x", false), nil, "cluster name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Judge(Case{Request: tt.asks.request(t), Invitation: tt.invitation, Cluster: tt.cluster})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestOthersRequestsAreLeftToOthers(t *testing.T) {
	for name, a := range map[string]asks{
		"a user":          {name: "jane", orgs: []string{"people"}},
		"another signer":  {name: "sluice:cluster:b", signer: "example.com/x"},
		"a kubelet's own": {name: "system:node:n", orgs: []string{"system:nodes"}},
	} {
		if _, ours := Asks(a.request(t)); ours {
			t.Errorf("%s is judged", name)
		}
	}
	if _, ours := Asks(&certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: certificatesv1.KubeAPIServerClientSignerName, Request: []byte("x")}}); ours {
		t.Error("what is no request is judged")
	}
}

func TestRenewalIsSpread(t *testing.T) {
	start := time.Unix(0, 0)
	c := &x509.Certificate{NotBefore: start, NotAfter: start.Add(100 * time.Hour), SerialNumber: big.NewInt(0)}
	if got := renewAt(c).Sub(start); got != 70*time.Hour {
		t.Errorf("the first after %v", got)
	}
	c.SerialNumber = big.NewInt(128)
	if got := renewAt(c).Sub(start); got != 75*time.Hour {
		t.Errorf("one in the middle after %v", got)
	}
}
