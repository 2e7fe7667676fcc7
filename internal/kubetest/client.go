package kubetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sluicegw/sluice/internal/child"
)

// requestTimeout bounds one question to a part; it is asked again.
const requestTimeout = 10 * time.Second

// newClient speaks HTTP as the administrator.
func (c *Cluster) newClient() (*http.Client, error) {
	p, err := c.pki.client("admin", "system:masters")
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(p.certificate, p.key)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(c.pki.certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{certificate}}, ForceAttemptHTTP2: true}
	if c.o.Host != nil {
		transport.DialContext = dialFrom(c.o.Host)
	}
	return &http.Client{Timeout: requestTimeout, Transport: transport}, nil
}

// get reads an object, or only asks if into is nil.
func (c *Cluster) get(ctx context.Context, url string, into any) error {
	return request(ctx, c.client, http.MethodGet, url, nil, into)
}

// Get reads an object as the administrator, by its path at the API server.
func (c *Cluster) Get(ctx context.Context, path string, into any) error {
	return c.get(ctx, c.InsideURL()+path, into)
}

// create posts an object.
func (c *Cluster) create(ctx context.Context, path string, object any) error {
	return request(ctx, c.client, http.MethodPost, c.InsideURL()+path, object, nil)
}

func request(ctx context.Context, client *http.Client, method, url string, body, into any) error {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, url, err)
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		return err // says method and URL
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, url, answer.Status, bytes.TrimSpace(text))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	return nil
}

// Kubectl runs kubectl as the administrator, and returns what it printed.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := child.Command(ctx, c.box, append([]string{"kubectl", "--kubeconfig", c.Kubeconfig()}, args...)...)
	cmd.Place = "cluster " + c.o.Name
	cmd.Stdin = strings.NewReader(stdin)
	// Beside its kubeconfig it keeps what it has discovered of a server, by host and port: another cluster may have had
	// the same.
	cmd.Env = append(cmd.Environ(), "KUBECACHEDIR="+c.path("kubectl-cache"))
	out, err := cmd.Output()
	return string(out), err
}
