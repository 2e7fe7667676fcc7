package node

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/network"
)

var update = flag.Bool("update", false, "write the wanted files anew")

// given is what a case begins with: this machine.
type given struct {
	MTU  int `json:"mtu"`
	Host []struct {
		Prefix netip.Prefix `json:"prefix"`
		Link   string       `json:"link"`
		MTU    int          `json:"mtu"`
	} `json:"host"`
}

func object[T any](t *testing.T, document []byte) (o T) {
	t.Helper()
	if err := yaml.UnmarshalStrict(document, &o); err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	return o
}

// read a case: the machine, then objects.
func readCase(t *testing.T, path string) (c Config, o Objects, host []Address) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c = Config{Cluster: "north", Gateway: "gw-north", Node: "n1", UDPPort: defaultUDPPort}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return c, o, host
		} else if err != nil {
			t.Fatal(err)
		}
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.Kind {
		case "":
			m := object[given](t, document)
			c.MTU = m.MTU
			for _, a := range m.Host {
				host = append(host, Address{a.Prefix, a.Link, a.MTU})
			}
		case "Gateway":
			o.Gateways = append(o.Gateways, object[v1alpha1.Gateway](t, document))
		case "VPC":
			o.VPCs = append(o.VPCs, object[v1alpha1.VPC](t, document))
		case "Subnet":
			o.Subnets = append(o.Subnets, object[v1alpha1.Subnet](t, document))
		case "Node":
			n := object[corev1.Node](t, document)
			o.Nodes = append(o.Nodes, network.PodNodeOf(&n))
		default:
			t.Fatalf("%s: kind %q", path, kind.Kind)
		}
	}
}

// text is a state for people.
func text(s State) string {
	var b strings.Builder
	for _, l := range s.Links {
		fmt.Fprintf(&b, "link %s: VNI %d, port %d, from %s (%s) to the gateway at %s, MTU %d\n", l.Name, l.VNI, l.UDPPort, l.Local, l.LocalMAC, l.Gateway, l.MTU)
	}
	for _, r := range s.Routes {
		switch {
		case r.Link == "":
			fmt.Fprintf(&b, "route %s: refused\n", r.Dst)
		case r.Source.IsValid():
			fmt.Fprintf(&b, "route %s: %s, our own from %s\n", r.Dst, r.Link, r.Source)
		default:
			fmt.Fprintf(&b, "route %s: %s\n", r.Dst, r.Link)
		}
	}
	if len(s.Remote) > 0 {
		fmt.Fprintf(&b, "no translation: %v with %v, segments for an MTU of %d\n", s.Pods, s.Remote, s.MTU)
	}
	for _, p := range s.Problems {
		fmt.Fprintf(&b, "problem: %s\n", p)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(strings.ReplaceAll(name, "-", " "), func(t *testing.T) {
			c, o, host := readCase(t, path)
			got := text(Plan(c, o, host))
			slices.Reverse(o.Gateways)
			slices.Reverse(o.VPCs)
			slices.Reverse(o.Subnets)
			slices.Reverse(o.Nodes)
			slices.Reverse(host)
			if again := text(Plan(c, o, host)); again != got {
				t.Errorf("in another order it is another plan:\n%s\n%s", got, again)
			}
			file := strings.TrimSuffix(path, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestReadConfigNamesWhatIsWrong(t *testing.T) {
	t.Setenv("NODE_NAME", "")
	const good = "cluster: north\ngateway: gw-north\nnode: n1\n"
	for name, tt := range map[string]struct {
		text string
		want []string // of the error; none: it is good
	}{
		"a good one":                      {good, nil},
		"all that is missing is reported": {"kubeconfig: x\n", []string{"cluster: missing", "gateway: missing", "node: missing"}},
		"an unknown key":                  {good + "vpc: x\n", []string{"vpc"}},
		"a table of the system's":         {good + "table: 254\n", []string{"table: 254"}},
		"a rule behind the main table":    {good + "priority: 32766\n", []string{"priority: 32766"}},
		"an MTU that is no IPv6's":        {good + "mtu: 1279\n", []string{"mtu: 1279"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "node.yaml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadConfig(file)
			if (err == nil) != (len(tt.want) == 0) {
				t.Fatalf("error %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q is silent about %q", err, want)
				}
			}
		})
	}
}
