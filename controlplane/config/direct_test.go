package config

import (
	"strings"
	"testing"
)

func TestEveryPeerInTheClearIsWarnedOf(t *testing.T) {
	parse := func(peers string) *Config {
		t.Helper()
		c, err := Parse([]byte(`
site: oslo
gateway: oslo-1
ports: [{name: wan0}]
wireguard: {keyFile: /etc/sluice/wg.key}
vpcs: [{name: red, vni: 100}, {name: blue, vni: 200}]
`+peers), "f")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := parse("")
	if c.HasDirectPeers() || len(c.Warnings()) != 0 {
		t.Errorf("without peers: %v", c.Warnings())
	}
	if c.Direct != (Direct{Port: 51821, PinDir: "/sys/fs/bpf/sluice/oslo-1"}) {
		t.Errorf("defaults: %+v", c.Direct)
	}
	c = parse(`
peers:
  - {name: bergen, encryption: none, endpoint: "198.51.100.2:51821", vpcs: [{name: red, prefixes: [10.2.0.0/16]}, {name: blue, prefixes: [10.2.0.0/16]}]}
  - {name: trondheim, encryption: none, endpoint: "198.51.100.3:51821", vpcs: [{name: red, prefixes: [10.3.0.0/16]}]}
`)
	got := strings.Join(c.Warnings(), "\n")
	want := `peer bergen has encryption none: all traffic of VPC red, blue with it travels in the clear, and whoever can send from 198.51.100.2 can send into it (docs/direct.md)
peer trondheim has encryption none: all traffic of VPC red with it travels in the clear, and whoever can send from 198.51.100.3 can send into it (docs/direct.md)`
	if !c.HasDirectPeers() || got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
