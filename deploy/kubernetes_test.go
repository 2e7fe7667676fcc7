// Package deploy has no code: it is the tests of what is in this folder.
package deploy

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluicegw/sluice/internal/kubetest"
)

// profiles are what people start from.
var profiles = []string{"local", "gce", "aws"}

// TestProfilesAreAccepted renders all profiles, and has a real API server check every object of them, without making it.
func TestProfilesAreAccepted(t *testing.T) {
	c := kubetest.Start(t, kubetest.Options{Name: "deploy"})
	render := func(t *testing.T, folder string) string {
		t.Helper()
		text, err := c.Kubectl(t.Context(), "", "kustomize", folder)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	// The kinds and the namespaces have to be there for real.
	if out, err := c.Kubectl(t.Context(), render(t, "../k8s/manifests"), "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	accepted := func(ctx context.Context, text string) error {
		_, err := c.Kubectl(ctx, text, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
		return err
	}
	for _, profile := range profiles {
		t.Run(profile, func(t *testing.T) {
			text := render(t, filepath.Join("kubernetes/profiles", profile))
			for _, want := range []string{"kind: Deployment", "kind: DaemonSet", "name: sluice-agent-"} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in it", want)
				}
			}
			deadline := time.Now().Add(30 * time.Second)
			for {
				err := accepted(t.Context(), text)
				if err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal(err)
				}
				time.Sleep(200 * time.Millisecond)
			}
			if err := accepted(t.Context(), strings.Replace(text, "hostNetwork: true", "hostNetwrk: true", 1)); err == nil {
				t.Error("a mistake in a field's name is accepted: the check is none")
			}
		})
	}
}

// TestKustomizeHasAllManifests: kustomize takes no patterns, so a new manifest could be forgotten.
func TestKustomizeHasAllManifests(t *testing.T) {
	const folder = "../k8s/manifests"
	text, err := os.ReadFile(filepath.Join(folder, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var k struct{ Resources []string }
	if err := yaml.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, file := range k.Resources {
		named[file] = true
	}
	files, err := filepath.Glob(filepath.Join(folder, "*", "*.yaml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d manifests seen (%v)", len(files), err)
	}
	for _, file := range files {
		if name := strings.TrimPrefix(file, folder+"/"); !named[name] {
			t.Errorf("%s is not in kustomization.yaml", name)
		}
	}
}
