package network_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/network"
)

// The gateway of two-clusters-share-a-vpc, when the pods of nodes are in its Subnets.
func TestPodsOfNodesAreHosts(t *testing.T) {
	node := func(name, address string, pods ...string) network.PodNode {
		n := network.PodNode{Name: name, Addresses: []netip.Addr{netip.MustParseAddr(address)}}
		for _, p := range pods {
			n.Pods = append(n.Pods, netip.MustParsePrefix(p))
		}
		return n
	}
	for name, tt := range map[string]struct {
		vtep    string
		nodes   []network.PodNode
		hosts   []config.Host
		gateway []string // addresses
		asked   bool     // hosts of the subnet 10.1.0.0/24 are asked for
	}{
		"nodes with a part of the Subnet each": {
			vtep: "172.20.0.1", nodes: []network.PodNode{node("n2", "172.20.0.12", "10.1.0.64/26"), node("n1", "172.20.0.11", "10.1.0.0/26", "10.9.0.0/24")},
			hosts: []config.Host{
				{VTEP: netip.MustParseAddr("172.20.0.11"), MAC: network.NodeMAC(netip.MustParseAddr("172.20.0.11")), Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/26")}},
				{VTEP: netip.MustParseAddr("172.20.0.12"), MAC: network.NodeMAC(netip.MustParseAddr("172.20.0.12")), Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.64/26")}},
			},
			gateway: []string{"10.1.0.254"},
		},
		"a node with all of it, and so with the gateway's address": {
			vtep: "172.20.0.1", nodes: []network.PodNode{node("n1", "172.20.0.11", "10.1.0.0/24")},
			hosts: []config.Host{
				{VTEP: netip.MustParseAddr("172.20.0.11"), MAC: network.NodeMAC(netip.MustParseAddr("172.20.0.11")), Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}},
			},
		},
		"nodes that do not know the gateway":       {nodes: []network.PodNode{node("n1", "172.20.0.11", "10.1.0.0/26")}, gateway: []string{"10.1.0.1"}, asked: true},
		"nodes of other pods":                      {vtep: "172.20.0.1", nodes: []network.PodNode{node("n1", "172.20.0.11", "10.9.0.0/26")}, gateway: []string{"10.1.0.1"}, asked: true},
		"nodes of the other family than its vtep":  {vtep: "fd20::1", nodes: []network.PodNode{node("n1", "172.20.0.11", "10.1.0.0/26")}, gateway: []string{"10.1.0.1"}, asked: true},
		"a node that is the gateway has no tunnel": {vtep: "172.20.0.11", nodes: []network.PodNode{node("n1", "172.20.0.11", "10.1.0.0/26")}, gateway: []string{"10.1.0.1"}, asked: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := objects(t, "testdata/two-clusters-share-a-vpc.yaml")
			for i := range o.Gateways {
				if g := &o.Gateways[i]; g.Name == "gw-north" {
					g.Spec.Endpoints[0].VTEP = tt.vtep
				}
			}
			o.PodNodes = tt.nodes
			r, err := network.Compile(machine(t), o)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(r.Config.VPCs, func(v config.VPC) bool { return v.Name == "red" })
			a := r.Config.VPCs[i].Attachments[0]
			if !slices.EqualFunc(a.Hosts, tt.hosts, func(a, b config.Host) bool {
				return a.VTEP == b.VTEP && a.MAC == b.MAC && slices.Equal(a.Prefixes, b.Prefixes)
			}) {
				t.Errorf("hosts %v", a.Hosts)
			}
			if asked := slices.Contains(a.Prefixes, netip.MustParsePrefix("10.1.0.0/24")); asked != tt.asked {
				t.Errorf("asks for hosts of %v", a.Prefixes)
			}
			var addresses []string
			for _, g := range r.Config.VPCs[i].GatewayAddresses {
				if g.Is4() {
					addresses = append(addresses, g.String())
				}
			}
			if !slices.Equal(addresses, tt.gateway) {
				t.Errorf("gateway addresses %q", addresses)
			}
		})
	}
}
