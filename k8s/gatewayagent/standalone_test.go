package gatewayagent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/gatewayagent"
	"github.com/sluicegw/sluice/k8s/standalone"
)

// What changes in the folder of a site without an API server reaches its gateway,
// also when the process was killed and comes back.
func TestAStandaloneSitesObjectsReachItsGateway(t *testing.T) {
	testenv.RequireRoot(t)
	scope := netnstest.New(t)
	c := &cluster{t: t, name: "kiosk", number: 1, dir: t.TempDir(), host: scope.NewHost("gwkiosk")}
	scope.NewSwitch("lan").Plug(netnstest.End{Host: c.host, Name: "lan0", Addrs: netnstest.Prefixes("172.20.1.1/24")})
	scope.NewSwitch("wan").Plug(netnstest.End{Host: c.host, Name: "wan0", Addrs: netnstest.Prefixes("198.51.100.1/24")})
	c.startGateway()

	folder := filepath.Join(c.dir, "objects")
	site, stop := c.standalone(folder)
	own, err := client.New(site.Config(), client.Options{Scheme: newScheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	make := func(o client.Object, text string) {
		t.Helper()
		if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
			t.Fatal(err)
		}
		if err := own.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	make(&v1alpha1.Gateway{}, "metadata: {name: gw-kiosk}\nspec: {cluster: kiosk, endpoints: [{name: kiosk-1, address: 198.51.100.1}]}\n")
	make(&v1alpha1.VPC{}, "metadata: {name: red}\nspec: {vni: 100}\n")
	make(&v1alpha1.Subnet{}, "metadata: {name: red-kiosk}\nspec: {vpc: red, cluster: kiosk, prefix: 10.1.0.0/24}\n")
	written := func(vni uint32, prefixes ...string) func() error {
		return func() error {
			text, err := os.ReadFile(filepath.Join(c.dir, "sluice.yaml"))
			if err != nil {
				return err
			}
			now, err := config.Parse(text, "")
			if err != nil {
				return err
			}
			for _, v := range now.VPCs {
				if v.Name != "red" || v.VNI != vni || len(v.Attachments) != 1 {
					continue
				}
				var got []string
				for _, p := range v.Attachments[0].Prefixes {
					got = append(got, p.String())
				}
				if strings.Join(got, " ") == strings.Join(prefixes, " ") {
					return nil
				}
			}
			return fmt.Errorf("the gateway has %+v", now.VPCs)
		}
	}
	t.Logf("the gateway had its first VPC after %v", soon(t, "the gateway has the VPC", written(100, "10.1.0.0/24")))
	var g v1alpha1.Gateway
	soon(t, "its key is in its Gateway", func() error {
		if err := own.Get(t.Context(), client.ObjectKey{Name: "gw-kiosk"}, &g); err != nil {
			return err
		}
		if e := g.Status.Endpoints; len(e) != 1 || e[0].PublicKey == "" || len(g.Status.ActiveMembers) != 1 {
			return errors.New("not yet")
		}
		return nil
	})

	stop()
	// The process is away, and what comes meanwhile is in the folder: here put in by hand, as the agent would.
	site, err = standalone.Open(standalone.Options{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	if own, err = client.New(site.Config(), client.Options{Scheme: newScheme(t)}); err != nil {
		t.Fatal(err)
	}
	if err := own.Patch(t.Context(), &v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: "red"}}, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"vni":101}}`))); err != nil {
		t.Fatal(err)
	}
	make(&v1alpha1.Subnet{}, "metadata: {name: red-more}\nspec: {vpc: red, cluster: kiosk, prefix: 10.2.0.0/24}\n")
	if err := site.Close(); err != nil {
		t.Fatal(err)
	}
	if err := written(100, "10.1.0.0/24")(); err != nil {
		t.Errorf("the gateway did not go on with what it had: %v", err)
	}
	_, stop = c.standalone(folder)
	defer stop()
	t.Logf("the gateway had the change %v after the start", soon(t, "the gateway has what came meanwhile", written(101, "10.1.0.0/24", "10.2.0.0/24")))
}

// standalone runs the gateway's agent on a folder.
func (c *cluster) standalone(folder string) (site *standalone.Site, stop func()) {
	c.t.Helper()
	site, err := standalone.Open(standalone.Options{Dir: folder})
	if err != nil {
		c.t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("cluster", c.name)
	}
	o := gatewayagent.Options{Own: site.Config(), Logger: logger, Config: gatewayagent.Config{
		Cluster: c.name, Gateway: "gw-" + c.name, Endpoint: c.name + "-1", File: filepath.Join(c.dir, "local.yaml"),
		Attachment: &config.Attachment{Type: config.VXLAN, Port: "lan0", VTEPs: []netip.Addr{netip.MustParseAddr("172.20.1.2")}},
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- gatewayagent.Run(ctx, o) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, site.Close()); err != nil {
			c.t.Error(err)
		}
	}
	c.t.Cleanup(stop)
	return site, stop
}
