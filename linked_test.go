package sluice_test

import (
	"os/exec"
	"strings"
	"testing"
)

// What the benchmarks draw and compare with is not in the shipped program: gonum's plots bring fonts and code under
// licences of their own (FTL, OFL, CC BY), the generators load eBPF programs that no gateway needs.
func TestTheShippedProgramLinksNoBenchmarkHarness(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/sluice").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 100 {
		t.Fatalf("only %d packages: the list is broken", len(deps))
	}
	allowed := []string{module + "bench/method", module + "bench/pair"}
	for _, dep := range deps {
		for _, banned := range []string{
			"gonum.org/", "github.com/ajstarks/", "github.com/golang/freetype", "golang.org/x/image", "codeberg.org/go-", "git.sr.ht/~sbinet/",
			module + "bench",
		} {
			if strings.HasPrefix(dep, banned) && !hasPrefix(dep, allowed) {
				t.Errorf("cmd/sluice links %s", dep)
			}
		}
	}
}

// The Kubernetes client costs 16 MiB and a tenth of a second at every start: what needs it is a program of its own.
func TestTheGatewayLinksNoKubernetesClient(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/sluice").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if hasPrefix(dep, []string{"k8s.io/", "sigs.k8s.io/", module + "k8s"}) {
			t.Errorf("cmd/sluice links %s", dep)
		}
	}
}
