package network_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
	"github.com/sluicegw/sluice/k8s/network"
)

var update = flag.Bool("update", false, "write the wanted files anew")

const file = `site: north
gateway: a
ports: [{name: lan0}, {name: wan0}]
wireguard: {keyFile: /etc/sluice/wg.key}
vpcs:
- {name: of-the-file, vni: 7, clampMSS: false}
`

func machine(t *testing.T) network.Machine {
	t.Helper()
	c, err := config.Parse([]byte(file), "local.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return network.Machine{
		Cluster: "north", Gateway: "gw-north", Endpoint: "a", PublicKey: config.PublicKey(bytes.Repeat([]byte{1}, 32)), File: c,
		Attachment: &config.Attachment{Type: config.VXLAN, Port: "lan0", VTEPs: []netip.Addr{netip.MustParseAddr("172.20.0.2")}},
	}
}

func objects(t *testing.T, path string) (o network.Objects) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			o.Nodes = map[string]network.Node{"ill": {}, "chosen": {Ready: true, Labels: map[string]string{"gateway": "true"}, Address: "198.51.100.8"}}
			return o
		} else if err != nil {
			t.Fatal(err)
		}
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.Kind {
		case "Gateway":
			o.Gateways = append(o.Gateways, object[v1alpha1.Gateway](t, document))
		case "VPC":
			o.VPCs = append(o.VPCs, object[v1alpha1.VPC](t, document))
		case "Subnet":
			o.Subnets = append(o.Subnets, object[v1alpha1.Subnet](t, document))
		default:
			t.Fatalf("%s: kind %q", path, kind.Kind)
		}
	}
}

func object[T any](t *testing.T, document []byte) (o T) {
	t.Helper()
	if err := yaml.UnmarshalStrict(document, &o); err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	return o
}

// text is a result for people: what became of each object, and the configuration.
func text(t *testing.T, r *network.Result) []byte {
	t.Helper()
	var b bytes.Buffer
	problem := func(p *network.Problem) string {
		if p == nil {
			return "good"
		}
		return p.Reason + ": " + p.Message
	}
	for _, name := range slices.Sorted(maps.Keys(r.Gateways)) {
		g := r.Gateways[name]
		fmt.Fprintf(&b, "# Gateway %s: own %v, active %q, %s\n", name, g.Own, g.Active, problem(g.Problem))
	}
	for _, name := range slices.Sorted(maps.Keys(r.VPCs)) {
		fmt.Fprintf(&b, "# VPC %s: VNI %d, %s\n", name, r.VPCs[name].VNI, problem(r.VPCs[name].Problem))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Subnets)) {
		s := r.Subnets[name]
		fmt.Fprintf(&b, "# Subnet %s: virtual %v, gateway %q, %s\n", name, s.Virtual, s.Gateway, problem(s.Problem))
	}
	out, err := r.Config.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), out...)
}

func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, path := range paths {
		want := strings.TrimSuffix(path, ".yaml") + ".want"
		cases++
		t.Run(strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".yaml"), "-", " "), func(t *testing.T) {
			o := objects(t, path)
			r, err := network.Compile(machine(t), o)
			if err != nil {
				t.Fatal(err)
			}
			got := text(t, r)
			if _, err := config.Parse(got, "compiled"); err != nil {
				t.Errorf("the gateway would refuse it: %v", err)
			}
			if *update {
				if err := os.WriteFile(want, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			wanted, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, wanted) {
				t.Errorf("differs from %s (-update writes it anew):\n%s", want, got)
			}
			slices.Reverse(o.Gateways)
			slices.Reverse(o.VPCs)
			slices.Reverse(o.Subnets)
			if r, err = network.Compile(machine(t), o); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(text(t, r), got) {
				t.Errorf("another order of the objects gives another result:\n%s", text(t, r))
			}
		})
	}
	if cases < 5 {
		t.Errorf("%d cases", cases)
	}
}

func TestADuplicateHealsWhenTheOlderOneLetsGo(t *testing.T) {
	o := objects(t, "testdata/numbers-are-kept-and-the-older-vpc-wins.yaml")
	o.VPCs = slices.DeleteFunc(o.VPCs, func(v v1alpha1.VPC) bool { return v.Name == "older-given" })
	r, err := network.Compile(machine(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if v := r.VPCs["younger-given"]; v.VNI != 100 || v.Problem != nil {
		t.Errorf("younger-given: %+v %+v", v, v.Problem)
	}
	if s := r.Subnets["in-the-younger"]; s.Problem != nil {
		t.Errorf("its subnet: %+v", s.Problem)
	}
}

func TestAllocatedNumbersStayWhenOthersComeAndGo(t *testing.T) {
	for _, top := range []bool{true, false} {
		have := map[string]int32{}
		for n, names := range []string{"a", "ab", "b", "bc", "abc"} {
			vpcs := []v1alpha1.VPC{{ObjectMeta: metav1.ObjectMeta{Name: "given"}, Spec: v1alpha1.VPCSpec{VNI: ptr.To[int32](2)}}}
			for _, name := range names {
				v := v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: string(name)}}
				v.Status.VNI = have[v.Name]
				vpcs = append(vpcs, v)
			}
			numbered := network.Number(vpcs, top)
			used := map[int32]bool{}
			for _, v := range vpcs {
				vni := numbered[v.Name].VNI
				if vni == 0 || used[vni] || v.Status.VNI != 0 && v.Status.VNI != vni || v.Spec.VNI == nil && top != (vni < 10) {
					t.Fatalf("top %v, step %d: VPC %s had %d and has %d", top, n, v.Name, v.Status.VNI, vni)
				}
				used[vni] = true
			}
			have = map[string]int32{}
			for _, v := range vpcs {
				have[v.Name] = numbered[v.Name].VNI
			}
		}
	}
}

func TestWhatComesFromAboveGoesBeforeWhatWasHereBefore(t *testing.T) {
	day := func(n int) metav1.Time { return metav1.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	copyOf := func(name, made string, day metav1.Time, vni *int32) v1alpha1.VPC {
		return v1alpha1.VPC{Spec: v1alpha1.VPCSpec{VNI: vni}, ObjectMeta: metav1.ObjectMeta{
			Name: name, CreationTimestamp: day, Labels: map[string]string{v1alpha1.LabelMirrored: "true"}, Annotations: map[string]string{v1alpha1.AnnotationCreated: made},
		}}
	}
	given, allocated := v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: "given", CreationTimestamp: day(1)}}, v1alpha1.VPC{ObjectMeta: metav1.ObjectMeta{Name: "allocated", CreationTimestamp: day(1)}}
	given.Spec.VNI, allocated.Status.VNI = ptr.To[int32](5), 6
	numbered := network.Number([]v1alpha1.VPC{
		given, allocated,
		copyOf("older-above", "2026-01-02T00:00:00Z", day(9), ptr.To[int32](5)),
		copyOf("younger-above", "2026-01-03T00:00:00Z", day(8), ptr.To[int32](5)),
		copyOf("sixth", "2026-01-04T00:00:00Z", day(7), ptr.To[int32](6)),
		copyOf("refused-above", "2026-01-04T00:00:00Z", day(7), nil),
	}, false)
	want := map[string]int32{"given": 0, "allocated": 1<<24 - 1, "older-above": 5, "younger-above": 0, "sixth": 6, "refused-above": 0}
	for name, vni := range want {
		v := numbered[name]
		if v.VNI != vni || (vni == 0) != (v.Problem != nil && v.Problem.Reason == network.ReasonDuplicateVNI) {
			t.Errorf("%s: %d, %+v", name, v.VNI, v.Problem)
		}
	}
}

func TestWhatIsWrongWithTheMachineItselfIsAnError(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*network.Machine)
		want   string
	}{
		"an IPv6 tunnel address of its own": {func(m *network.Machine) {
			m.File.WireGuard.TunnelAddresses = []netip.Addr{netip.MustParseAddr("fd00::1")}
		}, "wireguard.tunnelAddresses[0]"},
		"no key": {func(m *network.Machine) { m.PublicKey = config.PublicKey{} }, "public key"},
		"an attachment with prefixes": {func(m *network.Machine) {
			m.Attachment.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}, "attachment"},
		"a file that is wrong by itself": {func(m *network.Machine) { m.File.VPCs[0].Name = "" }, "the gateway's own file"},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine(t)
			tt.change(&m)
			_, err := network.Compile(m, objects(t, "testdata/two-clusters-share-a-vpc.yaml"))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestTunnelAddressesAreTheKeysOwn(t *testing.T) {
	a, b := network.TunnelAddress(config.PublicKey{1}), network.TunnelAddress(config.PublicKey{2})
	if a == b || !a.IsPrivate() || a.Is4() {
		t.Errorf("%v, %v", a, b)
	}
}
