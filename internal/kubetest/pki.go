package kubetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// A test bed lives for hours; its certificates for a year, and from before it
// began, should a clock be set back.
const (
	certificateLife = 365 * 24 * time.Hour
	certificateSlip = time.Hour
)

// authority is the cluster's CA: for the API server, kubelets and all clients.
type authority struct {
	certificate    *x509.Certificate
	certificatePEM []byte
	key            *ecdsa.PrivateKey
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := newTemplate(pkix.Name{CommonName: name})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{certificate: certificate, certificatePEM: toPEM("CERTIFICATE", der), key: key}, nil
}

func newTemplate(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // never fails (crypto/rand since Go 1.24)
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: now.Add(-certificateSlip), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

// pair is a certificate and its key, in PEM.
type pair struct{ certificate, key []byte }

// client signs for a user in groups (Kubernetes reads CN and O).
func (a *authority) client(user string, groups ...string) (pair, error) {
	template := newTemplate(pkix.Name{CommonName: user, Organization: groups})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(template)
}

// server signs for names and addresses.
func (a *authority) server(commonName string, names []string, addrs []netip.Addr) (pair, error) {
	template := newTemplate(pkix.Name{CommonName: commonName})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = names
	for _, addr := range addrs {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
	}
	return a.sign(template)
}

func (a *authority) sign(template *x509.Certificate) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return pair{}, err
	}
	text, err := keyPEM(key)
	return pair{certificate: toPEM("CERTIFICATE", der), key: text}, err
}

func (a *authority) keyPEM() ([]byte, error) { return keyPEM(a.key) }

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return toPEM("EC PRIVATE KEY", der), err
}

func toPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// write makes PREFIX.crt and PREFIX.key.
func (p pair) write(prefix string) error {
	return errors.Join(os.WriteFile(prefix+".crt", p.certificate, 0o644), os.WriteFile(prefix+".key", p.key, 0o600))
}

// makePKI makes all the keys and certificates that the control plane needs.
func (c *Cluster) makePKI() error {
	var err error
	if c.pki, err = newAuthority(c.o.Name + "-ca"); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	caKey, err := c.pki.keyPEM()
	if err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	server, err := c.pki.server("kube-apiserver",
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		[]netip.Addr{loopback, c.address, serviceRange.Addr().Next()})
	if err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	// The key that ServiceAccount tokens are signed with.
	tokens, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	tokensKey, err := keyPEM(tokens)
	if err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	// With which the API server asks kubelets for logs and the like.
	kubeletClient, err := c.pki.client("kube-apiserver", "system:masters")
	if err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	tokensPublic, err := x509.MarshalPKIXPublicKey(tokens.Public())
	if err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	if err := errors.Join(
		pair{c.pki.certificatePEM, caKey}.write(c.path("ca")),
		server.write(c.path("server")),
		os.WriteFile(c.path("tokens.key"), tokensKey, 0o600),
		os.WriteFile(c.path("tokens.pub"), toPEM("PUBLIC KEY", tokensPublic), 0o644),
		c.writeKubeconfig(c.Kubeconfig(), c.URL(), "admin", []string{"system:masters"}),
		kubeletClient.write(c.path("kubelet-client")),
	); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	c.client, err = c.newClient()
	return err
}

// fileName makes a file's name of a user's, which may contain colons and slashes.
func fileName(user string) string {
	return strings.Map(func(r rune) rune {
		if r == ':' || r == '/' || r == os.PathSeparator {
			return '-'
		}
		return r
	}, user)
}

// writeKubeconfig makes a file with which kubectl and client-go speak as a user.
func (c *Cluster) writeKubeconfig(path, server, user string, groups []string) error {
	p, err := c.pki.client(user, groups...)
	if err != nil {
		return fmt.Errorf("make certificate of %s: %w", user, err)
	}
	var text bytes.Buffer
	err = kubeconfig.Execute(&text, map[string]any{
		"Cluster": c.o.Name, "Server": server, "User": user,
		"CA": c.pki.certificatePEM, "Certificate": p.certificate, "Key": p.key,
	})
	if err != nil {
		return fmt.Errorf("make kubeconfig of %s: %w", user, err)
	}
	return os.WriteFile(path, text.Bytes(), 0o600)
}
