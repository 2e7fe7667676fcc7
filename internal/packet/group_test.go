package packet

import (
	"net/netip"
	"testing"
)

func TestGroupsThatMayLeaveTheirLink(t *testing.T) {
	for text, want := range map[string]bool{
		"239.0.0.0/8": true, "224.0.1.0/24": true, "224.0.2.1/32": true, "232.0.0.0/5": true,
		"224.0.0.0/24": false, "224.0.0.0/4": false, "224.0.0.251/32": false, "10.0.0.0/8": false, "0.0.0.0/0": false, "192.0.0.0/2": false,
		"ff08::/16": true, "ff05::/16": true, "ff0e::1/128": true, "ff18::/16": true,
		"ff02::/16": false, "ff02::1:3/128": false, "ff00::/8": false, "ff12::/16": false, "fd00::/8": false, "::/0": false,
	} {
		if got := CarriedGroup(netip.MustParsePrefix(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestTheMACOfAGroup(t *testing.T) {
	for group, want := range map[string][6]byte{
		"239.129.2.3":      {0x01, 0x00, 0x5e, 0x01, 2, 3},
		"ff08::1234:5678":  {0x33, 0x33, 0x12, 0x34, 0x56, 0x78},
		"224.128.255.255":  {0x01, 0x00, 0x5e, 0, 255, 255},
		"ff08::ffff:0:1:2": {0x33, 0x33, 0, 1, 0, 2},
	} {
		if got := GroupMAC(netip.MustParseAddr(group).AsSlice()); got != want {
			t.Errorf("%s: %x, want %x", group, got, want)
		}
	}
}
