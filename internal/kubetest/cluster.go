package kubetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// startTimeout is generous: a busy machine is no reason to fail.
const startTimeout = 90 * time.Second

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// Options of a cluster. The zero value is etcd and an API server, which need no
// privilege.
type Options struct {
	// Name of the cluster in its kubeconfig files; default "cluster".
	Name string
	// Controllers adds the controller manager and the scheduler.
	Controllers bool
	// FakeNodes adds as many nodes that kwok simulates, called NAME-fake-0 and so on: pods that are scheduled there
	// are soon running, and jobs complete. It implies Controllers.
	FakeNodes int
	// APIServerArgs are more arguments of the API server.
	APIServerArgs []string
	// Host is a network namespace to run in, on the well-known ports; by default the cluster listens on free ports of
	// 127.0.0.1 of this machine. It has to outlive the cluster.
	Host *netnstest.Host
	// Address of Host that the API server listens on, and the nodes and pods find it by.
	Address netip.Addr
}

// TB is what a cluster needs of a *testing.T or *testing.B.
type TB interface {
	testenv.TB
	Cleanup(func())
	Context() context.Context
	Errorf(format string, args ...any)
	Failed() bool
	Logf(format string, args ...any)
}

// Start returns a cluster that ends with the test. The test is skipped, or
// failed, where kubebox has not been built (see testenv). A failed test is told
// what the cluster's parts last said.
func Start(t TB, o Options) *Cluster {
	t.Helper()
	Require(t)
	c, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("cluster %s:\n%s", c.o.Name, c.lastLogs())
		}
		if err := c.Close(); err != nil {
			t.Errorf("end cluster %s: %v", c.o.Name, err)
		}
	})
	return c
}

// Cluster is a running cluster.
type Cluster struct {
	o       Options
	box     string // the kubebox binary
	dir     *stateDir
	address netip.Addr // that everything listens on
	ports   ports
	pki     *authority
	client  *http.Client // of the administrator
	parts   []*part      // that run, in the order of their starts
	door    *door        // the way in, when there is a Host
	nodes   []*Node
}

// Open starts a cluster, and returns when its API server is ready and its
// simulated nodes are. It ends with Close, not with ctx.
func Open(ctx context.Context, o Options) (_ *Cluster, err error) {
	o.Name = cmp.Or(o.Name, "cluster")
	box, err := Binary()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	dir, err := newStateDir()
	if err != nil {
		return nil, fmt.Errorf("start cluster %s: %w", o.Name, err)
	}
	c := &Cluster{o: o, box: box, dir: dir, address: loopback}
	if o.Host != nil {
		c.address = o.Address
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start cluster %s: %w", o.Name, err), c.Close())
		}
	}()
	for try := 1; ; try++ {
		err := c.up(ctx)
		if err == nil {
			return c, nil
		}
		// Somebody took a port between our finding it free and its use.
		if try == 3 || !errors.Is(err, errPortTaken) {
			return nil, err
		}
		c.kill()
		if err := os.RemoveAll(c.path("etcd")); err != nil {
			return nil, err
		}
	}
}

func (c *Cluster) up(ctx context.Context) error {
	var err error
	if c.o.Host != nil {
		c.ports = wellKnown
		if c.door == nil {
			c.door, err = openDoor(c.o.Host, netip.AddrPortFrom(c.address, c.ports.api))
		}
	} else {
		c.ports, err = freePorts(c.address)
	}
	if err != nil {
		return err
	}
	if err := c.makePKI(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{c.startEtcd, c.StartAPIServer} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if c.o.Controllers || c.o.FakeNodes > 0 {
		if err := c.startControllers(ctx); err != nil {
			return err
		}
	}
	if c.o.FakeNodes > 0 {
		return c.startFakeNodes(ctx)
	}
	return nil
}

func (c *Cluster) path(names ...string) string {
	return filepath.Join(append([]string{c.dir.path}, names...)...)
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.o.Name }

// Kubeconfig is a file with the rights of the group system:masters, which may do
// everything.
func (c *Cluster) Kubeconfig() string { return c.path("admin.kubeconfig") }

// URL is where the API server answers processes of this machine.
func (c *Cluster) URL() string {
	if c.door != nil {
		return "https://" + c.door.address().String()
	}
	return c.InsideURL()
}

// InsideURL is where the API server answers those who are in the network of the
// cluster's Host.
func (c *Cluster) InsideURL() string {
	return "https://" + netip.AddrPortFrom(c.address, c.ports.api).String()
}

// CA is the certificate, in PEM, that the API server's and every client's are
// signed with.
func (c *Cluster) CA() []byte { return c.pki.certificatePEM }

// CAKey is the CA's private key, in PEM.
func (c *Cluster) CAKey() ([]byte, error) { return c.pki.keyPEM() }

// KubeconfigFor makes a file for a user, by a client certificate that names the
// user and groups. It is for processes of this machine.
func (c *Cluster) KubeconfigFor(user string, groups ...string) (string, error) {
	path := c.path(fileName(user) + ".kubeconfig")
	return path, c.writeKubeconfig(path, c.URL(), user, groups)
}

// InsideKubeconfigFor makes such a file for those in the network of the
// cluster's Host.
func (c *Cluster) InsideKubeconfigFor(user string, groups ...string) (string, error) {
	path := c.path(fileName(user) + ".inside.kubeconfig")
	return path, c.writeKubeconfig(path, c.InsideURL(), user, groups)
}

// Close ends everything at once and removes all files.
func (c *Cluster) Close() error {
	var errs []error
	for i := len(c.nodes) - 1; i >= 0; i-- {
		errs = append(errs, c.nodes[i].Close())
	}
	c.kill()
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
	if c.door != nil {
		errs = append(errs, c.door.close())
	}
	return errors.Join(append(errs, c.dir.remove())...)
}

// kill ends all parts, the last one first. None is asked politely: an API server
// takes ten seconds to say goodbye, and nobody needs the store any more.
func (c *Cluster) kill() {
	for i := len(c.parts) - 1; i >= 0; i-- {
		c.parts[i].Kill()
	}
	c.parts = nil
}
