package agent_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/agent"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/join"
)

// sign does what the parent's controller manager does: it signs what is approved.
func (s *server) sign(t *testing.T) {
	t.Helper()
	ca, err := s.authority()
	if err != nil {
		t.Fatal(err)
	}
	scheme := newScheme()
	if err := certificatesv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for serial := int64(1000); ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			var list certificatesv1.CertificateSigningRequestList
			if err := c.List(ctx, &list); err != nil {
				continue
			}
			for i := range list.Items {
				csr := &list.Items[i]
				if len(csr.Status.Certificate) > 0 || len(csr.Status.Conditions) == 0 || csr.Status.Conditions[0].Type != certificatesv1.CertificateApproved {
					continue
				}
				serial++
				csr.Status.Certificate = ca.sign(csr.Spec.Request, serial)
				if err := c.Status().Update(ctx, csr); err != nil && ctx.Err() == nil {
					t.Errorf("sign %s: %v", csr.Name, err)
				}
			}
		}
	}()
}

// authority is a cluster's CA.
type authority struct {
	certificate *x509.Certificate
	key         any
}

func (s *server) authority() (authority, error) {
	keyPEM, err := s.CAKey()
	if err != nil {
		return authority{}, err
	}
	block, _ := pem.Decode(s.CA())
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return authority{}, err
	}
	keyBlock, _ := pem.Decode(keyPEM)
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		key, err = x509.ParseECPrivateKey(keyBlock.Bytes)
	}
	return authority{certificate, key}, err
}

// sign makes certificates that live so short that their renewal can be seen.
func (a authority) sign(request []byte, serial int64) []byte {
	block, _ := pem.Decode(request)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: csr.Subject, NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(19 * time.Second),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, csr.PublicKey, a.key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestJoining(t *testing.T) {
	servers := pool.take(t, 2)
	a := root(t, servers[0])
	a.sign(t)
	admin, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	invite := func(i join.Invitation) (*rest.Config, error) {
		i.TTL = join.MinTTL
		config, err := join.Invite(t.Context(), admin, i)
		if err != nil {
			return nil, err
		}
		text, err := join.Write(config)
		if err != nil {
			return nil, err
		}
		return clientcmd.RESTConfigFromKubeConfig(text)
	}
	must := func(i join.Invitation) *rest.Config {
		t.Helper()
		c, err := invite(i)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	first, second := must(join.Invitation{Name: "harbour"}), must(join.Invitation{Name: "harbour"})
	folder := t.TempDir()

	// A token can ask for a certificate, and do nothing else.
	c, err := client.New(first, client.Options{Scheme: newScheme()})
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"lists Missions": c.List(ctx, &v1alpha1.MissionList{}), "lists EdgeClusters": c.List(ctx, &v1alpha1.EdgeClusterList{}), "lists Secrets": c.List(ctx, &corev1.SecretList{}),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("who was invited %s: %v", what, err)
		}
	}
	if _, err := join.Join(ctx, first, "castle", t.TempDir()); err == nil || !strings.Contains(err.Error(), `the invitation is for "harbour", not for "castle"`) {
		t.Errorf("another name: %v", err)
	}

	kubeconfig, err := join.Join(ctx, first, "harbour", folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := join.Join(ctx, first, "harbour", folder); err == nil || !strings.Contains(err.Error(), "has joined") {
		t.Errorf("joining twice: %v", err)
	}
	for _, name := range []string{join.KubeconfigFile, "identity.pem"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	// Two of the same name: the second is refused, with an invitation that is open and without.
	if _, err := join.Join(ctx, second, "harbour", t.TempDir()); err == nil || !strings.Contains(err.Error(), "a cluster named harbour has joined already") {
		t.Errorf("the second of that name: %v", err)
	}
	if _, err := invite(join.Invitation{Name: "harbour"}); err == nil || !strings.Contains(err.Error(), "a cluster named harbour has joined already") {
		t.Errorf("another invitation: %v", err)
	}

	parent, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if !join.Renews(parent) {
		t.Fatalf("the certificate %s will not be renewed", parent.CertFile)
	}
	h := &site{server: servers[1], t: t, name: "harbour", parent: a}
	t.Cleanup(h.pause)
	t.Cleanup(h.clean)
	run, err := agent.New(agent.Options{Name: "harbour", Heartbeat: heartbeat, Own: h.config, Parent: parent, Certificate: parent.CertFile})
	if err != nil {
		t.Fatal(err)
	}
	agentCtx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run.Run(agentCtx) }()
	h.stop = func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	soon(t, 10*time.Second, "it reports", a.cluster("harbour", v1alpha1.Healthy, nil))
	a.submit("joined", v1alpha1.MissionSpec{Manifests: configYAML("joined", "1")})
	soon(t, 10*time.Second, "it works", all(h.value("joined", "1"), a.states("joined", map[string]string{"harbour": "Ready"})))
	soon(t, 10*time.Second, "the token is used up", func() error {
		err := c.List(ctx, &v1alpha1.MissionList{})
		if apierrors.IsUnauthorized(err) {
			return nil
		}
		return err
	})
	old, err := os.ReadFile(parent.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	soon(t, 40*time.Second, "the certificate is renewed", func() error {
		now, err := os.ReadFile(parent.CertFile)
		if err == nil && string(now) == string(old) {
			err = os.ErrExist
		}
		return err
	})
	a.withdraw("joined")
	soon(t, 10*time.Second, "gone", h.none(&v1alpha1.Mission{}, "joined"))

	// Removed, it has nothing more to say here.
	if err := a.admin.Delete(ctx, &v1alpha1.EdgeCluster{ObjectMeta: h.meta()}); err != nil {
		t.Fatal(err)
	}
	child, err := client.New(parent, client.Options{Scheme: newScheme()})
	if err != nil {
		t.Fatal(err)
	}
	soon(t, 10*time.Second, "its permissions are gone", func() error {
		err := child.List(ctx, &v1alpha1.MissionReportList{}, client.InNamespace(v1alpha1.ClusterNamespace("harbour")))
		if apierrors.IsForbidden(err) {
			return nil
		}
		return err
	})
}
