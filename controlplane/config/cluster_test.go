package config

import (
	"strings"
	"testing"
)

const clustered = `site: oslo
gateway: oslo-1
ports: [{name: site0}, {name: wan0}]
wireguard: {keyFile: /etc/sluice/wg.key, tunnelAddresses: [100.64.0.1]}
vpcs:
  - name: default
    attachments: [{type: routed, port: site0, prefixes: [10.1.0.0/16]}]
peers:
  - {name: oslo-2, publicKey: "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", tunnelAddresses: [100.64.0.2]}
  - {name: bergen-1, publicKey: "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=", tunnelAddresses: [100.64.0.3], vpcs: [{name: default, prefixes: [10.2.0.0/16]}]}
cluster:
  members: [oslo-2]
  witnesses: [bergen-1]
  vpcs: [{name: default, priority: 200, addresses: [{port: site0, address: 10.1.0.1/16}]}]
`

func TestAClusterIsChecked(t *testing.T) {
	if _, err := Parse([]byte(clustered), "x"); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ old, new, want string }{
		"a witness is needed":                   {"  witnesses: [bergen-1]\n", "", "cluster.witnesses: this gateway, members and witnesses are 2"},
		"a member is a peer":                    {"members: [oslo-2]", "members: [oslo-3]", `cluster.members[0]: "oslo-3" is not a peer`},
		"a voter votes once":                    {"witnesses: [bergen-1]", "witnesses: [oslo-2]", "cluster.witnesses[0]: oslo-2 is already"},
		"members need tunnel addresses":         {", tunnelAddresses: [100.64.0.2]}", "}", "peers[0].tunnelAddresses: is required: members and witnesses"},
		"a VPC must be there":                   {"vpcs: [{name: default, priority", "vpcs: [{name: red, priority", "cluster.vpcs[0].name"},
		"an address is on a port of the VPC":    {"{port: site0, address", "{port: wan0, address", `VPC default has no attachment on port "wan0"`},
		"members come first":                    {"  members: [oslo-2]\n", "", "cluster.members: is required"},
		"a lease that is too short":             {"  members:", "  interval: 5ms\n  members:", "cluster.interval: must be 20ms to 1s"},
		"a hold-down that is none":              {"  members:", "  holdDown: 10ms\n  members:", "cluster.holdDown: must be 1s to 24h"},
		"a member is in no cluster of others":   {"{name: oslo-2,", "{name: oslo-2, cluster: oslo,", "peers[0].cluster: peer oslo-2 is a member of our own cluster"},
		"others need prefixes":                  {", vpcs: [{name: default, prefixes: [10.2.0.0/16]}]}", "}", "peers[1].vpcs: is required"},
		"another site's cluster needs a tunnel": {"{name: bergen-1,", "{cluster: bergen, encryption: none, name: bergen-1,", "has encryption none"},
	} {
		text := strings.Replace(clustered, c.old, c.new, 1)
		if text == clustered {
			t.Fatalf("%s: nothing was replaced", what)
		}
		if _, err := Parse([]byte(text), "x"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}
