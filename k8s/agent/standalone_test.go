package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/k8s/agent"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/command"
	"github.com/sluicegw/sluice/k8s/join"
	"github.com/sluicegw/sluice/k8s/standalone"
)

// lonely is a site without an API server, below a cluster that has one.
type lonely struct {
	t        *testing.T
	name     string
	dir      string
	parent   *rest.Config
	commands *command.Runner
	site     *standalone.Site // nil while no agent runs
	own      client.Client    // of site
	stop     func()
}

func (l *lonely) start() {
	l.t.Helper()
	o := agent.Options{Name: l.name, Heartbeat: heartbeat, Parent: l.parent, Commands: l.commands, Version: "test"}
	if join.Renews(l.parent) {
		o.Certificate = l.parent.CertFile
	}
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("cluster", l.name)
	}
	var err error
	if l.site, err = standalone.Open(standalone.Options{Dir: l.dir, Logger: o.Logger}); err != nil {
		l.t.Fatal(err)
	}
	if l.own, err = client.New(l.site.Config(), client.Options{Scheme: newScheme()}); err != nil {
		l.t.Fatal(err)
	}
	o.Standalone = l.site
	a, err := agent.New(o)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	l.stop = func() {
		cancel()
		if err := errors.Join(<-done, l.site.Close()); err != nil {
			l.t.Errorf("agent of %q: %v", l.name, err)
		}
	}
}

func (l *lonely) pause() {
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
}

// vni wants a VPC of the site to have a number; 0 wants none to be there.
func (l *lonely) vni(name string, want int32) func() error {
	return func() error {
		var v v1alpha1.VPC
		err := l.own.Get(l.t.Context(), client.ObjectKey{Name: name}, &v)
		switch {
		case want == 0 && apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		case v.Spec.VNI == nil || *v.Spec.VNI != want:
			return fmt.Errorf("VPC %s has %v, want %d", name, v.Spec.VNI, want)
		}
		return nil
	}
}

func vpcYAML(name string, vni int) string {
	return fmt.Sprintf("apiVersion: sluice.dev/v1alpha1\nkind: VPC\nmetadata: {name: %s}\nspec: {vni: %d}\n", name, vni)
}

// A site without an API server joins as others do, and works from its folder.
func TestStandaloneSite(t *testing.T) {
	servers := pool.take(t, 1)
	a := root(t, servers[0])
	a.sign(t)
	admin, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	invitation, err := join.Invite(t.Context(), admin, join.Invitation{Name: "kiosk", TTL: join.MinTTL})
	if err != nil {
		t.Fatal(err)
	}
	text, err := join.Write(invitation)
	if err != nil {
		t.Fatal(err)
	}
	invited, err := clientcmd.RESTConfigFromKubeConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kubeconfig, err := join.Join(ctx, invited, "kiosk", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bench := workbench(t)
	file := func(name string) string { return filepath.Join(bench, name) }
	k := &lonely{t: t, name: "kiosk", dir: t.TempDir(), commands: allowing(t, []string{"/bin/sh", "-c", "*"})}
	if k.parent, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.pause)
	k.start()
	old, err := os.ReadFile(k.parent.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 15 * time.Second
	soon(t, limit, "it reports", func() error {
		var e v1alpha1.EdgeCluster
		if err := a.admin.Get(t.Context(), client.ObjectKey{Name: "kiosk"}, &e); err != nil {
			return err
		}
		if e.Status.Health != v1alpha1.Healthy || e.Status.Distro != "standalone" || e.Status.Labels[v1alpha1.LabelDistro] != "standalone" {
			return fmt.Errorf("%+v", e.Status)
		}
		return nil
	})
	sh := func(text string) []string { return []string{"/bin/sh", "-c", "cd " + bench + " && " + text} }
	run := func(name, text, undo string) {
		a.submit(name, v1alpha1.MissionSpec{Command: &v1alpha1.MissionCommand{Command: sh(text), ReverseCommand: sh(undo)}})
	}
	lines := func(name, want string) func() error {
		return func() error {
			text, err := os.ReadFile(file(name))
			if err != nil && !os.IsNotExist(err) {
				return err
			}
			if got := strings.Join(strings.Fields(string(text)), " "); got != want {
				return fmt.Errorf("%s has %q, want %q", name, got, want)
			}
			return nil
		}
	}
	run("hello", "echo here >>hello; echo well done", "echo undone >>hello")
	soon(t, limit, "its command has run, and the root knows", all(lines("hello", "here"), a.says("hello", "kiosk", v1alpha1.PhaseReady, "the command has run: well done")))

	t.Run("what needs Kubernetes is said not to be possible", func(t *testing.T) {
		a.submit("config", v1alpha1.MissionSpec{Manifests: configYAML("config", "1")})
		a.submit("deploy", v1alpha1.MissionSpec{Manifests: deploymentYAML("deploy", 1) + "---\n" + vpcYAML("beside", 9)})
		words := "not possible here: this is a standalone site without Kubernetes, which takes commands, VPCs, Subnets and Gateways"
		soon(t, limit, "said", all(a.says("config", "kiosk", v1alpha1.PhaseFailed, "ConfigMap config: "+words), a.says("deploy", "kiosk", v1alpha1.PhaseFailed, "Deployment deploy: "+words)))
		soon(t, limit, "the rest of it is there", k.vni("beside", 9))
		var list corev1.ConfigMapList
		if err := k.own.List(t.Context(), &list, client.HasLabels{v1alpha1.LabelMission}); err != nil || len(list.Items) > 0 {
			t.Errorf("%v, %v", list.Items, err)
		}
		a.withdraw("config")
		a.withdraw("deploy")
		soon(t, limit, "gone", k.vni("beside", 0))
	})
	t.Run("network objects come, change and go with their Mission", func(t *testing.T) {
		a.submit("net", v1alpha1.MissionSpec{Manifests: vpcYAML("red", 100)})
		soon(t, limit, "there", all(k.vni("red", 100), a.states("net", map[string]string{"kiosk": "Ready"})))
		a.submit("net", v1alpha1.MissionSpec{Manifests: vpcYAML("red", 101)})
		soon(t, limit, "changed", k.vni("red", 101))
		a.submit("bad", v1alpha1.MissionSpec{Manifests: vpcYAML("bad", 1<<30)})
		soon(t, limit, "a wrong one is refused in words", a.says("bad", "kiosk", v1alpha1.PhaseFailed, `VPC bad: VPC.sluice.dev "bad" is invalid: spec.vni: Invalid value`))
		a.withdraw("bad")
	})
	t.Run("without its parent it goes on, also after a restart", func(t *testing.T) {
		run("often", "exit 0", "true")
		soon(t, limit, "ran", a.says("often", "kiosk", v1alpha1.PhaseReady, "the command has run"))
		a.submit("watch", v1alpha1.MissionSpec{Command: &v1alpha1.MissionCommand{Command: sh("exec sleep 1000"), Background: true}})
		soon(t, limit, "runs", a.says("watch", "kiosk", v1alpha1.PhaseReady, "the command runs since"))
		if err := a.StopAPIServer(); err != nil {
			t.Fatal(err)
		}
		k.pause()
		k.start()
		soon(t, limit, "the background command runs again", func() error {
			var m v1alpha1.Mission
			if err := k.own.Get(t.Context(), client.ObjectKey{Name: "watch"}, &m); err != nil {
				return err
			}
			if m.Status.Local == nil || m.Status.Local.Phase != v1alpha1.PhaseReady {
				return fmt.Errorf("%+v", m.Status)
			}
			return nil
		})
		// Drift is put back, from the copy alone.
		nine := int32(9)
		if err := k.own.Patch(t.Context(), &v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: "red"}, Spec: v1alpha1.VPCSpec{VNI: &nine}},
			client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"vni":9}}`))); err != nil {
			t.Fatal(err)
		}
		soon(t, limit, "drift is put back", k.vni("red", 101))
		if err := k.own.Delete(t.Context(), &v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: "red"}}); err != nil {
			t.Fatal(err)
		}
		soon(t, limit, "made again", k.vni("red", 101))
		if err := lines("hello", "here")(); err != nil {
			t.Errorf("what was run once is run once: %v", err)
		}
		if err := a.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.submit("net", v1alpha1.MissionSpec{Manifests: vpcYAML("red", 102)})
		a.withdraw("hello")
		soon(t, 30*time.Second, "it hears of what was changed meanwhile", all(k.vni("red", 102), lines("hello", "here undone")))
		soon(t, limit, "and says so", a.states("net", map[string]string{"kiosk": "Ready"}))
	})
	t.Run("damaged files are refused, and fetched anew", func(t *testing.T) {
		k.pause()
		for _, name := range []string{"missions/net.yaml", "vpcs/red.yaml", "configmaps/sluice-system_sluice-cluster.yaml"} {
			path := filepath.Join(k.dir, name)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, content[:len(content)/2], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		k.start()
		soon(t, limit, "all is there again", all(k.vni("red", 102), func() error {
			if refused := k.site.Refused(); len(refused) > 0 {
				return fmt.Errorf("still refused: %v", refused)
			}
			return nil
		}))
	})
	t.Run("its certificate is renewed", func(t *testing.T) {
		soon(t, 40*time.Second, "renewed", func() error {
			now, err := os.ReadFile(k.parent.CertFile)
			if err == nil && string(now) == string(old) {
				err = os.ErrExist
			}
			return err
		})
	})
	for _, name := range []string{"net", "often", "watch"} {
		a.withdraw(name)
	}
	soon(t, limit, "nothing is left", func() error {
		var list v1alpha1.MissionList
		if err := k.own.List(t.Context(), &list); err != nil || len(list.Items) > 0 {
			return fmt.Errorf("%v, %v", list.Items, err)
		}
		return k.vni("red", 0)()
	})
}

// Whatever moment the agent is killed at, its folder has what its parent says in the
// end, and every file is whole.
func TestAStandaloneAgentKilledAtAnyMomentLosesNothing(t *testing.T) {
	servers := pool.take(t, 1)
	a := root(t, servers[0])
	if err := a.admin.Create(t.Context(), &v1alpha1.EdgeCluster{ObjectMeta: metav1.ObjectMeta{Name: "hut"}}); err != nil {
		t.Fatal(err)
	}
	bench, dir := workbench(t), t.TempDir()
	parent, err := a.KubeconfigFor(v1alpha1.ClusterUser("hut"), v1alpha1.GroupClusters)
	if err != nil {
		t.Fatal(err)
	}
	who := "nobody"
	if os.Geteuid() != 0 {
		u, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		who = u.Username
	}
	text, err := yaml.Marshal(map[string]any{
		"name": "hut", "flavour": "standalone", "folder": dir, "parent": map[string]any{"kubeconfig": parent}, "heartbeat": heartbeat.String(),
		"commands": map[string]any{"user": who, "allow": [][]string{{"/bin/sh", "-c", "*"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	// Missions 0 to 4: the even ones have a VPC, the odd ones a command that leaves a file.
	want := map[string]int{} // Mission: its value
	round := func(n int) {
		name := fmt.Sprintf("k%d", n%5)
		switch {
		case want[name] != 0 && rand.N(3) == 0:
			a.withdraw(name)
			delete(want, name)
		case n%5%2 == 0:
			want[name] = n + 1
			a.submit(name, v1alpha1.MissionSpec{Manifests: vpcYAML(name, n+1)})
		default:
			want[name] = n + 1
			a.submit(name, v1alpha1.MissionSpec{Command: &v1alpha1.MissionCommand{
				Command:        []string{"/bin/sh", "-c", fmt.Sprintf("echo %d >%s/%s", n+1, bench, name)},
				ReverseCommand: []string{"/bin/sh", "-c", fmt.Sprintf("rm -f %s/%s", bench, name)},
			}})
		}
	}
	for n := range 15 {
		agent := process(t, config)
		for i := range 3 {
			round(3*n + i)
			time.Sleep(rand.N(150 * time.Millisecond))
		}
		time.Sleep(rand.N(400 * time.Millisecond))
		if err := agent.Process.Kill(); err != nil { // SIGKILL
			t.Fatal(err)
		}
		_ = agent.Wait() // killed, it says
		site, err := standalone.Open(standalone.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if refused := site.Refused(); len(refused) > 0 {
			t.Errorf("after kill %d: %v", n, refused)
		}
		if err := site.Close(); err != nil {
			t.Fatal(err)
		}
	}
	last := process(t, config)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		soon(t, 30*time.Second, "the root knows", a.states(name, map[string]string{"hut": "Ready"}))
	}
	soon(t, 15*time.Second, "nothing else is reported", func() error {
		var list v1alpha1.MissionReportList
		if err := a.admin.List(t.Context(), &list, client.InNamespace(v1alpha1.ClusterNamespace("hut"))); err != nil {
			return err
		}
		if len(list.Items) != len(want) {
			return fmt.Errorf("%d reports of %d Missions", len(list.Items), len(want))
		}
		return nil
	})
	if err := last.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := last.Wait(); err != nil {
		t.Error(err)
	}
	site, err := standalone.Open(standalone.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer site.Close()
	own, err := client.New(site.Config(), client.Options{Scheme: newScheme()})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	var vpcs v1alpha1.VPCList
	if err := own.List(t.Context(), &vpcs); err != nil {
		t.Fatal(err)
	}
	for _, v := range vpcs.Items {
		got[v.Name] = int(*v.Spec.VNI)
	}
	files, err := os.ReadDir(bench)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(bench, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if _, err := fmt.Sscan(string(content), &n); err != nil {
			t.Errorf("%s: %v", f.Name(), err)
		}
		got[f.Name()] = n
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
