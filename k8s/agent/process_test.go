package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/k8s/agent"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/command"
	"github.com/sluicegw/sluice/k8s/standalone"
)

// runAsAgent makes this test program an agent: the variable names its configuration.
const runAsAgent = "SLUICE_TEST_RUN_AS_AGENT"

func agentProcess(file string, logger *slog.Logger) int {
	c, err := agent.ReadConfig(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := agent.Options{Name: c.Name, Heartbeat: c.Heartbeat.Duration, Logger: logger}
	if c.Flavour == agent.FlavourStandalone {
		o.Standalone, err = standalone.Open(standalone.Options{Dir: c.Folder, Logger: logger})
	} else {
		o.Own, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	}
	if err == nil && c.Commands != nil {
		o.Commands, err = command.New(*c.Commands, logger)
	}
	if err == nil && c.Parent != nil {
		o.Parent, err = clientcmd.BuildConfigFromFlags("", c.Parent.Kubeconfig)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	a, err := agent.New(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := a.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// What a Mission has brought is noted before it is there, so an agent that is killed
// at any moment leaves nothing behind that the next one does not know of.
func TestAnAgentKilledAtAnyMomentLosesNothing(t *testing.T) {
	servers := pool.take(t, 2)
	a := root(t, servers[0])
	b := &site{server: servers[1], t: t, name: "mortal", parent: a}
	t.Cleanup(b.clean)
	b.join(a)
	config := b.configFile(t)

	// Missions 0 to 4 have 1 to 3 ConfigMaps each; every round adds, changes, moves or deletes.
	want := map[string]string{}   // ConfigMap: value
	owns := map[string][]string{} // Mission: ConfigMaps
	round := func(n int) {
		name := fmt.Sprintf("m%d", n%5)
		if owns[name] != nil && rand.N(3) == 0 {
			a.withdraw(name)
			for _, cm := range owns[name] {
				delete(want, cm)
			}
			delete(owns, name)
			return
		}
		for _, cm := range owns[name] {
			delete(want, cm)
		}
		owns[name] = nil
		text := ""
		for i := range 1 + rand.N(3) {
			cm := fmt.Sprintf("%s-%d", name, (n+i)%4)
			want[cm] = fmt.Sprint(n)
			owns[name] = append(owns[name], cm)
			text += "---\n" + configYAML(cm, fmt.Sprint(n))
		}
		a.submit(name, v1alpha1.MissionSpec{Manifests: text})
	}
	for n := range 15 {
		run := process(t, config)
		for i := range 3 {
			round(3*n + i)
			time.Sleep(rand.N(150 * time.Millisecond))
		}
		time.Sleep(rand.N(400 * time.Millisecond))
		if err := run.Process.Kill(); err != nil { // SIGKILL
			t.Fatal(err)
		}
		_ = run.Wait() // killed, it says
	}
	last := process(t, config)
	defer func() {
		if err := last.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := last.Wait(); err != nil {
			t.Error(err)
		}
	}()
	soon(t, 30*time.Second, "exactly what the Missions say is in the cluster", func() error {
		var list corev1.ConfigMapList
		if err := b.admin.List(t.Context(), &list, client.InNamespace("default"), client.HasLabels{v1alpha1.LabelMission}); err != nil {
			return err
		}
		got := map[string]string{}
		for _, cm := range list.Items {
			got[cm.Name] = cm.Data["value"]
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("got %v, want %v", got, want)
		}
		return nil
	})
	for name := range owns {
		soon(t, 10*time.Second, "the root knows", a.states(name, map[string]string{"mortal": "Ready"}))
	}
}

// configFile writes the configuration of a site's agent.
func (c *site) configFile(t *testing.T) string {
	t.Helper()
	own, err := c.KubeconfigFor(agentUser)
	if err != nil {
		t.Fatal(err)
	}
	parent, err := c.parent.KubeconfigFor(v1alpha1.ClusterUser(c.name), v1alpha1.GroupClusters)
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(map[string]any{
		"name": c.name, "kubeconfig": own, "parent": map[string]any{"kubeconfig": parent}, "heartbeat": heartbeat.String(),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func process(t *testing.T, config string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), runAsAgent+"="+config)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}
