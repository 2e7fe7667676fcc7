package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata, or rewrites it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func filesOf(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files match %s: %v", pattern, err)
	}
	return paths
}

func TestGoodFilesParseAndPrintWithTheirDefaults(t *testing.T) {
	for _, path := range filesOf(t, "testdata/good/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(data, filepath.Base(path))
			if err != nil {
				t.Fatal(err)
			}
			printed, err := c.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".want", string(printed))
			again, err := Parse(printed, "printed")
			if err != nil {
				t.Fatalf("parse what was printed: %v", err)
			}
			if diff := cmp.Diff(c, again, compareAddrs()); diff != "" {
				t.Errorf("the printed form means something else (-file +printed):\n%s", diff)
			}
		})
	}
}

func TestBadFilesReportEveryProblemInOrder(t *testing.T) {
	for _, path := range filesOf(t, "testdata/bad/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(data, filepath.Base(path))
			var e *Error
			if !errors.As(err, &e) || c != nil {
				t.Fatalf("Parse = %v, %v; want no config and an *Error", c, err)
			}
			last := 0
			for _, p := range e.Problems {
				if p.Line < last {
					t.Errorf("%s: comes after line %d", p.Text(""), last)
				}
				last = p.Line
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".want", err.Error()+"\n")
		})
	}
}

func TestConfigurationsBuiltInGoAreChecked(t *testing.T) {
	c := &Config{
		Site: "oslo", Gateway: "oslo-1",
		Ports:     []Port{{Name: "wan0"}},
		WireGuard: WireGuard{KeyFile: "/etc/sluice/wg.key"},
		VPCs:      []VPC{{Name: DefaultVPC}, {Name: "red", VNI: 0x010203}},
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if c.Workers != 1 || c.WireGuard.ListenPort != 51820 || c.API.Socket != DefaultSocket || c.Ports[0].Mode != ModeAuto {
		t.Errorf("defaults are not applied: %+v", c)
	}
	if got := c.VPCs[1].GatewayMAC.String(); got != "02:51:ce:01:02:03" {
		t.Errorf("gateway MAC = %s, not derived from the VNI", got)
	}
	c.Workers, c.Peers = 99, []Peer{{Name: "bergen-1"}}
	want := `peers[0].publicKey: is required, unless encryption is none
peers[0].vpcs: is required, unless the peer is a member of our cluster
workers: must be 1 to 64, not 99`
	if err := c.Check(); err == nil || err.Error() != want {
		t.Errorf("Check = %v, want\n%s", err, want)
	}
}

func TestProblemsNeverShowAKeyThatIsInTheWrongPlace(t *testing.T) {
	const secret = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
	for _, text := range []string{
		"wireguard: {privateKey: " + secret + "}",
		"wireguard: {keyFile: [" + secret + "]}",
		"wireguard: " + secret,
		"peers: " + secret,
		"peers: [" + secret + "]",
		"peers: [{presharedKeyFile: {key: " + secret + "}}]",
		"peers: [{publicKey: x" + secret + "}]",
		"peers: [{vpcs: " + secret + "}]",
		"peers: [{endpoint: " + secret + "}]",
	} {
		_, err := Parse([]byte(text), "f")
		if err == nil {
			t.Errorf("%s: accepted", text)
		} else if strings.Contains(err.Error(), secret[:20]) {
			t.Errorf("%s: the error shows the value: %v", text, err)
		}
	}
}

func TestTheNearestKeyIsSuggested(t *testing.T) {
	words := []string{"name", "mode", "zeroCopy", "udpPort", "gatewayMAC"}
	for s, want := range map[string]string{
		"nmae": "name", "Mode": "mode", "zero_copy": "zeroCopy", "zero-copy": "zeroCopy", "udpPrt": "udpPort",
		"gatewayMac": "gatewayMAC", "moed": "mode", "bandwidth": "", "x": "", "": "",
	} {
		if got, _ := nearest(s, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", s, got, want)
		}
	}
}
