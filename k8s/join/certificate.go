package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// Files that Join writes, in a folder that is its own.
const (
	KubeconfigFile = "parent.kubeconfig"
	identityFile   = "identity.pem" // certificate and key in one, so that they are replaced at once
)

// pollEvery is how often an open signing request is looked at.
const pollEvery = 500 * time.Millisecond

// Join asks the parent for a certificate, with the token of an invitation, and
// writes it to a folder beside a kubeconfig that uses it. It returns the path of the
// kubeconfig. A folder in which a cluster has joined already is left alone.
func Join(ctx context.Context, invitation *rest.Config, name, folder string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	kubeconfig := filepath.Join(folder, KubeconfigFile)
	if _, err := os.Stat(kubeconfig); err == nil {
		return "", fmt.Errorf("%s is there already: this cluster has joined; remove it to join anew", kubeconfig)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	c, err := newClient(invitation)
	if err != nil {
		return "", err
	}
	if err := obtain(ctx, c, name, filepath.Join(folder, identityFile)); err != nil {
		return "", err
	}
	config, err := skeleton(invitation)
	if err != nil {
		return "", err
	}
	// Relative: the folder may be mounted elsewhere.
	config.AuthInfos[theUser] = &clientcmdapi.AuthInfo{ClientCertificate: identityFile, ClientKey: identityFile}
	text, err := clientcmd.Write(*config)
	if err != nil {
		return "", err
	}
	return kubeconfig, replaceFile(kubeconfig, text)
}

// Renews reports whether a way to the parent is of Join's making, so that Renew can
// keep its certificate fresh.
func Renews(parent *rest.Config) bool {
	return filepath.Base(parent.CertFile) == identityFile && parent.KeyFile == parent.CertFile
}

// Renew replaces the certificate in file when seven tenths of its life are over; it
// returns when to call it next. parent is reached with the certificate that there is.
func Renew(ctx context.Context, parent *rest.Config, file string, now time.Time) (time.Duration, error) {
	old, err := readCertificate(file)
	if err != nil {
		return 0, err
	}
	if wait := renewAt(old).Sub(now); wait > 0 {
		return wait, nil
	}
	name, ok := clusterOf(old.Subject.CommonName)
	if !ok {
		return 0, fmt.Errorf("%s: the certificate is for %q, which is no cluster", file, old.Subject.CommonName)
	}
	c, err := newClient(parent)
	if err != nil {
		return 0, err
	}
	if err := obtain(ctx, c, name, file); err != nil {
		return 0, err
	}
	if old, err = readCertificate(file); err != nil {
		return 0, err
	}
	return renewAt(old).Sub(now), nil
}

// renewAt spreads clusters that joined together, by their serial numbers, over a
// tenth of the certificate's life.
func renewAt(c *x509.Certificate) time.Time {
	life := c.NotAfter.Sub(c.NotBefore)
	spread := time.Duration(0)
	if bytes := c.SerialNumber.Bytes(); len(bytes) > 0 {
		spread = life / 10 * time.Duration(bytes[len(bytes)-1]) / 256
	}
	return c.NotBefore.Add(life/10*7 + spread)
}

// obtain makes a key, has it signed, and writes both to file.
func obtain(ctx context.Context, c client.Client, name, file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: v1alpha1.ClusterUser(name), Organization: []string{v1alpha1.GroupClusters}},
	}, key)
	if err != nil {
		return err
	}
	csr := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "sluice-" + name + "-", Labels: map[string]string{v1alpha1.LabelCluster: name}},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:           pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}),
			SignerName:        certificatesv1.KubeAPIServerClientSignerName,
			Usages:            []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
			ExpirationSeconds: ptr.To(int32(CertificateLife / time.Second)),
		},
	}
	if err := c.Create(ctx, csr); err != nil {
		return fmt.Errorf("ask the parent for a certificate: %w", err)
	}
	if err := signed(ctx, c, csr); err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	text := append([]byte(nil), csr.Status.Certificate...)
	return replaceFile(file, append(text, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})...))
}

// signed waits for a certificate, or for the reason why there will be none.
func signed(ctx context.Context, c client.Client, csr *certificatesv1.CertificateSigningRequest) error {
	for {
		for _, condition := range csr.Status.Conditions {
			if condition.Status == corev1.ConditionTrue && condition.Type != certificatesv1.CertificateApproved {
				return fmt.Errorf("the parent refuses: %s", condition.Message)
			}
		}
		if len(csr.Status.Certificate) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			state := "nobody has approved it (does an agent run there?)"
			if len(csr.Status.Conditions) > 0 {
				state = "it is approved, but nobody signs it (the parent's controller manager does)"
			}
			return fmt.Errorf("wait for signing request %s at the parent: %s: %w", csr.Name, state, ctx.Err())
		case <-time.After(pollEvery):
		}
		if err := c.Get(ctx, client.ObjectKeyFromObject(csr), csr); err != nil && ctx.Err() == nil {
			return fmt.Errorf("read signing request %s: %w", csr.Name, err)
		}
	}
}

func readCertificate(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			return c, nil
		}
	}
	return nil, fmt.Errorf("%s: no certificate in it", file)
}

// replaceFile writes a file of which nobody sees half, and that only its owner reads.
func replaceFile(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
