package pair_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/bench/contestants"
	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/pair"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/testenv"
)

// Two hosts, each behind a gateway of its own: the program as it is shipped, on both, across the tunnel.
func TestTwoHostsBehindTwoGateways(t *testing.T) {
	testenv.RequireRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	d := contestants.Sluice{}
	lab, err := scenario.NewLab(method.Scenario{Attachment: scenario.Routed}.Normal(), false)
	if errors.Is(err, method.ErrUnavailable) {
		testenv.Missing(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := d.Build(ctx, lab); err != nil {
		t.Fatal(err)
	}
	if err := lab.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program, token, file := filepath.Join(dir, "sluice"), filepath.Join(dir, "token"), filepath.Join(dir, "result.json")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "../../cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	to := scenario.Inner(2, scenario.Routed).String()
	server := lab.Ends[1].End.Command(context.Background(), program, "bench", "serve", "--listen", net.JoinHostPort(to, "7411"), "--token-file", token, "--max-rate", "20000")
	var said bytes.Buffer
	server.Stderr = &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	var out []byte
	err = scenario.Eventually(ctx, func() error { // the server may not listen yet
		out, err = lab.Ends[0].End.Command(ctx, program, "bench", "run", "--to", to, "--token-file", token,
			"--sizes", "64,1500", "--trial", "30ms", "--flows", "2", "--json", file).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "refused") && !strings.Contains(string(out), "no such file") {
			t.Fatalf("%v: %s", err, out)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, &said)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r pair.Result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	// The tunnel's MTU is that of the WAN without IPv4, UDP and WireGuard: 60 bytes.
	if want := scenario.LinkMTU - 60; r.MTU != want {
		t.Errorf("path mtu %d, want %d", r.MTU, want)
	}
	if r.RTT == nil || r.RTT.Received == 0 || len(r.UDP) != 4 || len(r.TCP) != 2 {
		t.Fatalf("%s", text)
	}
	for _, u := range r.UDP {
		if u.PDR.PPS < 100 || len(u.Loads) == 0 || u.Loads[0].Received == 0 {
			t.Errorf("%s %d B: %+v", u.Direction, u.Size, u)
		}
	}
	for _, x := range r.TCP {
		if x.Bits < 1e6 {
			t.Errorf("tcp %s: %.0f bit/s", x.Direction, x.Bits)
		}
	}
	t.Logf("\n%s", out)
}
