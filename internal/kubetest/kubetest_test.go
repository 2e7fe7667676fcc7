package kubetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/sluicegw/sluice/internal/netnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for; nothing here is about how long it takes.
const patience = 30 * time.Second

func eventually(t *testing.T, what func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := what(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %v: %v", patience, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// as is a client with the rights that a kubeconfig file gives.
func as(t *testing.T, file string, host *netnstest.Host) (*http.Client, string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `yaml:"server"`
				CA     string `yaml:"certificate-authority-data"`
			} `yaml:"cluster"`
		} `yaml:"clusters"`
		Users []struct {
			User struct {
				Certificate string `yaml:"client-certificate-data"`
				Key         string `yaml:"client-key-data"`
			} `yaml:"user"`
		} `yaml:"users"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	cluster, user := config.Clusters[0].Cluster, config.Users[0].User
	decode := func(s string) []byte {
		data, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	certificate, err := tls.X509KeyPair(decode(user.Certificate), decode(user.Key))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(decode(cluster.CA)) {
		t.Fatal("no CA in the kubeconfig")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{certificate}}}
	if host != nil {
		transport.DialContext = dialFrom(host)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: requestTimeout}, cluster.Server
}

const (
	crdPath    = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	widgetPath = "/apis/example.test/v1/widgets"
	rbacPath   = "/apis/rbac.authorization.k8s.io/v1/"
)

const widgetCRD = `{
  "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.test"},
  "spec": {
    "group": "example.test", "scope": "Cluster",
    "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
    "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
      "type": "object",
      "properties": {"low": {"type": "integer"}, "high": {"type": "integer"}},
      "x-kubernetes-validations": [{"rule": "self.low <= self.high", "message": "low is above high"}]
    }}}}}]
  }
}`

func widget(name string, low, high int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"apiVersion": "example.test/v1", "kind": "Widget", "metadata": {"name": %q}, "spec": {"low": %d, "high": %d}}`, name, low, high))
}

func TestAnAPIServerAlone(t *testing.T) {
	Require(t)
	c, err := Open(t.Context(), Options{Name: "alone"})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			c.Close()
		}
	}()
	pids := c.pids()
	if len(pids) != 2 {
		t.Errorf("%d processes, want etcd and the API server", len(pids))
	}

	admin, server := as(t, c.Kubeconfig(), nil)
	post := func(ctx context.Context, path string, object any) error {
		return request(ctx, admin, http.MethodPost, server+path, object, nil)
	}
	if err := post(t.Context(), crdPath, json.RawMessage(widgetCRD)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error { return post(ctx, widgetPath, widget("good", 1, 2)) }) // served a moment later
	if err := post(t.Context(), widgetPath, widget("bad", 2, 1)); err == nil || !strings.Contains(err.Error(), "low is above high") {
		t.Errorf("an object that the CEL rule forbids: %v", err)
	}

	t.Run("a user has the rights of a role and no others", func(t *testing.T) {
		role := `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "widget-reader"},
			"rules": [{"apiGroups": ["example.test"], "resources": ["widgets"], "verbs": ["get", "list"]}]}`
		binding := `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "readers"},
			"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "widget-reader"},
			"subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "readers"}]}`
		if err := errors.Join(post(t.Context(), rbacPath+"clusterroles", json.RawMessage(role)), post(t.Context(), rbacPath+"clusterrolebindings", json.RawMessage(binding))); err != nil {
			t.Fatal(err)
		}
		file, err := c.KubeconfigFor("system:test:reader", "readers")
		if err != nil {
			t.Fatal(err)
		}
		reader, _ := as(t, file, nil)
		eventually(t, func(ctx context.Context) error { // roles reach the authorizer by a watch
			return request(ctx, reader, http.MethodGet, server+widgetPath+"/good", nil, nil)
		})
		if err := request(t.Context(), reader, http.MethodDelete, server+widgetPath+"/good", nil, nil); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("a reader deletes: %v", err)
		}
	})

	t.Run("a killed API server comes back with what it had", func(t *testing.T) {
		if err := c.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		if err := c.get(t.Context(), server+"/readyz", nil); err == nil {
			t.Error("it answers although it was stopped")
		}
		if err := c.StopAPIServer(); err == nil {
			t.Error("it could be stopped twice")
		}
		if err := c.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c.URL() != server {
			t.Errorf("it answers at %s, before at %s", c.URL(), server)
		}
		eventually(t, func(ctx context.Context) error { return c.get(ctx, server+widgetPath+"/good", nil) })
	})

	t.Run("a restored backup is the state of then", func(t *testing.T) {
		backup, err := c.Backup(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, func(ctx context.Context) error { return post(ctx, widgetPath, widget("later", 3, 4)) })
		if err := request(t.Context(), admin, http.MethodDelete, server+widgetPath+"/good", nil, nil); err != nil {
			t.Fatal(err)
		}
		if err := c.Restore(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
		var list struct {
			Items []struct{ Metadata struct{ Name string } }
		}
		eventually(t, func(ctx context.Context) error { return c.get(ctx, server+widgetPath, &list) })
		if len(list.Items) != 1 || list.Items[0].Metadata.Name != "good" {
			t.Errorf("widgets after the restore: %v", list.Items)
		}
	})

	pids = append(pids, c.pids()...)
	closed = true
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprint("/proc/", pid)); err == nil {
			t.Errorf("process %d is left", pid)
		}
	}
	if _, err := os.Stat(c.dir.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder %s is left: %v", c.dir.path, err)
	}
}

func (c *Cluster) pids() []int {
	var pids []int
	for _, p := range c.parts {
		pids = append(pids, p.Process.Pid)
	}
	return pids
}

func TestAClusterInANamespace(t *testing.T) {
	Require(t)
	host := netnstest.New(t).NewHost("site")
	c := Start(t, Options{Name: "inside", Host: host, Address: netip.MustParseAddr("127.0.0.1")})
	inside, err := c.InsideKubeconfigFor("admin", "system:masters")
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []struct {
		name, file string
		from       *netnstest.Host
		reached    bool
	}{
		{"this machine comes in by the door", c.Kubeconfig(), nil, true},
		{"the host needs none", inside, host, true},
		{"this machine has no other way", inside, nil, false},
		{"the door is not in the namespace", c.Kubeconfig(), host, false},
	} {
		t.Run(way.name, func(t *testing.T) {
			client, server := as(t, way.file, way.from)
			if err := request(t.Context(), client, http.MethodGet, server+"/api/v1/namespaces/default", nil, nil); (err == nil) != way.reached {
				t.Errorf("asking %s: %v", server, err)
			}
		})
	}
}

// kubectl fails the test if the command does.
func kubectl(t *testing.T, c *Cluster, stdin string, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSimulatedNodesRunPods(t *testing.T) {
	c := Start(t, Options{Name: "wide", FakeNodes: 3})
	kubectl(t, c, "", "create", "deployment", "web", "--image=example.test/web:1", "--replicas=9")
	kubectl(t, c, "", "create", "job", "once", "--image=example.test/once:1")
	kubectl(t, c, "", "rollout", "status", "deployment/web", "--timeout=30s")
	kubectl(t, c, "", "wait", "--for=condition=Complete", "job/once", "--timeout=30s")
	nodes := map[string]bool{}
	for _, node := range strings.Fields(kubectl(t, c, "", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.nodeName}")) {
		nodes[node] = true
	}
	for i := range 3 {
		if name := fmt.Sprintf("wide-fake-%d", i); !nodes[name] {
			t.Errorf("no pod on %s; there are some on %v", name, nodes)
		}
	}
	kubectl(t, c, "", "delete", "deployment", "web")
	eventually(t, func(ctx context.Context) error {
		out, err := c.Kubectl(ctx, "", "get", "pods", "-l", "app=web", "-o", "name")
		if err == nil && out != "" {
			err = fmt.Errorf("left: %s", out)
		}
		return err
	})
}

// TestAKilledProcessTakesItsClusterAlong runs itself as a process that starts a cluster and is killed.
func TestAKilledProcessTakesItsClusterAlong(t *testing.T) {
	Require(t)
	const variable = "SLUICE_KUBETEST_VICTIM"
	if os.Getenv(variable) != "" {
		c := Start(t, Options{Name: "victim"})
		fmt.Printf("%s %d %d\n", c.dir.path, c.pids()[0], c.pids()[1])
		time.Sleep(time.Hour)
	}
	victim := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	victim.Env = append(os.Environ(), variable+"=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var dir string
	var pids [2]int
	_, err = fmt.Fscan(out, &dir, &pids[0], &pids[1])
	victim.Process.Kill()
	victim.Wait()
	if err != nil {
		t.Fatalf("the victim did not tell of its cluster: %v", err)
	}
	for _, pid := range pids {
		eventually(t, func(context.Context) error {
			if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(state), ") Z ") {
				return fmt.Errorf("process %d still runs", pid)
			}
			return nil
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "owner")); err != nil {
		t.Fatalf("the folder was gone before the sweep: %v", err)
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder %s is left: %v", dir, err)
	}
}

func TestAMissingBinaryIsNamed(t *testing.T) {
	t.Setenv(binaryVariable, filepath.Join(t.TempDir(), "kubebox"))
	if _, err := Open(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "tools/kubebox/build.sh") {
		t.Errorf("error %v, want one that says how to build it", err)
	}
}

func TestAPartThatEndsIsQuoted(t *testing.T) {
	Require(t)
	_, err := Open(t.Context(), Options{Name: "broken", APIServerArgs: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "kube-apiserver ended") || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("error %v, want one that quotes the API server", err)
	}
}
