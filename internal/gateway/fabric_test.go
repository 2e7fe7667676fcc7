package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/fib"
	"github.com/sluicegw/sluice/internal/hosts"
	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
	"github.com/sluicegw/sluice/routing"
)

func fabricSite(t testing.TB) (*config.Config, map[string]peerRef) {
	t.Helper()
	cfg, err := config.Parse([]byte(`site: oslo
gateway: oslo-1
ports: [{name: eth0}, {name: eth1}]
wireguard: {keyFile: /etc/sluice/wg.key, tunnelAddresses: [10.255.0.1]}
vpcs:
  - name: red
    vni: 100
    gatewayAddresses: [10.1.0.1]
    attachments: [{type: vxlan, port: eth0, prefixes: [10.1.0.0/24], vteps: [192.0.2.11, 192.0.2.12]}]
  - name: blue
    vni: 1000
    attachments: [{type: vxlan, port: eth0, allowedPrefixes: [10.3.0.0/16], trustedVTEPs: [192.0.2.0/28]}]
  - name: green
    vni: 2000
    attachments: [{type: vxlan, port: eth0, allowedPrefixes: [10.3.0.0/16]}]
bgp:
  asn: 65001
  neighbours:
    - {name: leaf-1, port: eth0, address: 192.0.2.11, asn: 65101, evpn: true}
peers:
  - name: bergen-1
    publicKey: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
    tunnelAddresses: [10.255.0.2]
    vpcs: [{name: blue, prefixes: [10.0.0.0/8]}, {name: red, prefixes: [10.2.0.0/16]}]
`), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return cfg, map[string]peerRef{"bergen-1": {id: 0, wireguard: new(wireguard.Peer)}}
}

func TestAFabricIsToldOfTheVPCsBehindItsPortAndBoundByTheirAttachments(t *testing.T) {
	cfg, _ := fabricSite(t)
	there := links("lo", "eth0", "eth1")
	out := routingConfig(cfg, there, nil, nil)
	if len(out.Ports) != 1 || out.Ports[0].Name != "eth0" || len(out.Ports[0].Neighbours) != 1 {
		t.Fatalf("ports: %+v", out.Ports)
	}
	port := out.Ports[0]
	if n := port.Neighbours[0]; n.Name != "leaf-1" || n.Import != nil || n.Export == nil {
		t.Errorf("neighbour: %+v", n)
	}
	for i, want := range []struct {
		vpc                   string
		hosts, allowed, vteps []string
	}{
		{"red", []string{"10.1.0.0/24"}, []string{"10.1.0.0/24"}, []string{"192.0.2.11/32", "192.0.2.12/32"}},
		{"blue", nil, []string{"10.3.0.0/16"}, []string{"192.0.2.0/28"}},
	} {
		v := port.Fabric[i]
		got := fmt.Sprint(v.VPC, v.Hosts, v.Allowed, v.VTEPs)
		if got != fmt.Sprint(want.vpc, want.hosts, want.allowed, want.vteps) {
			t.Errorf("got %s, want %+v", got, want)
		}
		if link := there.LinkByName("eth0"); v.VTEP != vtepOf(link) || !v.VTEP.IsValid() || v.Tunnel != routing.VXLAN || v.MAC == [6]byte{} {
			t.Errorf("vpc %s: %+v", v.VPC, v)
		}
		if e := out.VPCs[i].EVPN; e.VNI != v.VNI || len(e.Targets) != 1 || e.Distinguisher == (routing.VPNID{}) {
			t.Errorf("vpc %s is told as %+v", v.VPC, e)
		}
	}
}

// The program is told of a prefix behind a VTEP where it lies inside a prefix of a peer.
func TestAPrefixBehindAVTEPIsADeliveryLikeAHost(t *testing.T) {
	cfg, refs := fabricSite(t)
	there := links("lo", "eth0", "eth1")
	prefix := netip.MustParsePrefix("10.3.7.0/24")
	hop := routing.NextHop{Port: "eth0", Addr: netip.MustParseAddr("192.0.2.11"), MAC: [6]byte{2, 0, 0, 0, 0, 0xaa}}
	learned := routesByVPC{"blue": {prefix: {hop}}}
	p, err := compile(cfg, there, refs, learned.taken)
	if err != nil {
		t.Fatal(err)
	}
	vpc := &p.snapshot.VPCs[slices.IndexFunc(p.snapshot.VPCs, func(v relay.VPC) bool { return v.Name == "blue" })]
	route := vpc.Routes.Lookup(netip.MustParseAddr("10.3.7.9"))
	if route == nil || route.Prefix != prefix || route.NextHops[0].Kind != fib.Local {
		t.Fatalf("route: %+v", route)
	}
	d := p.snapshot.Deliveries[route.NextHops[0].ID]
	if d.VTEP != hop.Addr || d.MAC != hop.MAC || d.VNI != 1000 || d.Learned {
		t.Errorf("delivery: %+v", d)
	}
	if diverts(p.program(), netip.MustParseAddr("10.3.7.9")) || !diverts(p.program(), netip.MustParseAddr("10.3.8.9")) {
		t.Error("the program does not tell the site's prefix from the peer's around it")
	}
	if !learnsFabric(p, "red", "eth0") || len(p.fabrics) != 1 {
		t.Errorf("fabrics: %v", p.fabrics)
	}
}

func TestAPrefixBehindAVTEPComesAndGoesWithoutCompilingEverything(t *testing.T) {
	cfg, refs := fabricSite(t)
	there := links("lo", "eth0", "eth1")
	p, err := compile(cfg, there, refs, nil)
	if err != nil {
		t.Fatal(err)
	}
	change := routing.Change{Prefix: netip.MustParsePrefix("10.3.7.0/24"),
		NextHops: []routing.NextHop{{Port: "eth0", Addr: netip.MustParseAddr("192.0.2.11"), MAC: [6]byte{2, 0, 0, 0, 0, 0xaa}}}}
	a := amended(p, &compiler{cfg: cfg, links: there}, map[string][]routing.Change{"green": {change}})
	if a == nil || len(a.more) != 1 || a.more[0].MAC != change.NextHops[0].MAC || a.changes[0].Routes.Exact(change.Prefix) == nil {
		t.Fatalf("amended: %+v", a)
	}
	at := slices.IndexFunc(p.snapshot.VPCs, func(v relay.VPC) bool { return v.Name == "green" })
	snapshot := *a.plan.snapshot
	snapshot.VPCs = slices.Clone(snapshot.VPCs)
	snapshot.VPCs[at].Routes = a.changes[0].Routes
	a.plan.snapshot = &snapshot
	change.NextHops = nil
	if a = amended(&a.plan, &compiler{cfg: cfg, links: there}, map[string][]routing.Change{"green": {change}}); a == nil || a.changes[0].Routes.Exact(change.Prefix) != nil {
		t.Fatalf("amended: %+v", a)
	}
}

func learnsFabric(p *plan, vpc, port string) bool {
	segment, ok := p.fabrics[fabricPort{vpc, port}]
	return ok && slices.ContainsFunc(p.learned, func(l hosts.Attachment) bool { return l.Segment == segment })
}
