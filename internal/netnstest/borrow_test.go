package netnstest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// machine is a host that stands for the machine: it has both ends of a cable.
func machine(t *testing.T) (*Scope, *Host, *Link, *Link) {
	t.Helper()
	s := New(t)
	m := s.NewHost("machine")
	a, b := s.Connect(End{Host: m, Name: "nic0", MTU: 1600, Offload: true}, End{Host: m, Name: "nic1", MTU: 1600, Offload: true})
	return s, m, a, b
}

func TestBorrowedInterfacesComeBackAsTheyWere(t *testing.T) {
	_, m, a, b := machine(t)
	b.SetUp(false)
	macs := map[string]string{"nic0": a.MAC.String(), "nic1": b.MAC.String()}
	err := m.Do(func() error {
		other, err := Open(Options{Label: "test"})
		if err != nil {
			return err
		}
		left, right := other.NewHost("left"), other.NewHost("right")
		first := other.Borrow("nic0", End{Host: left, Name: "eth0", MAC: MAC("02:00:00:00:00:01"), MTU: 1400, Addrs: Prefixes("192.0.2.1/24", "2001:db8::1/64")})
		second := other.Borrow("nic1", End{Host: right, Name: "eth0", Addrs: Prefixes("192.0.2.2/24")})
		if err := other.Err(); err != nil {
			t.Error(err)
			return other.Close()
		}
		for _, l := range []*Link{first, second} {
			if err := l.Carrier(); err != nil {
				t.Error(err)
			}
		}
		if first.MAC.String() != "02:00:00:00:00:01" {
			t.Errorf("its mac is %v", first.MAC)
		}
		if err := Ping(t.Context(), left, netip.MustParseAddr("192.0.2.2"), PingOptions{Count: 3, Timeout: 10 * time.Second}); err != nil {
			t.Error(err)
		}
		return other.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, up := range map[string]bool{"nic0": true, "nic1": false} {
		link, err := m.Netlink().LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		attrs := link.Attrs()
		if attrs.MTU != 1600 || attrs.HardwareAddr.String() != macs[name] || strings.Contains(attrs.Flags.String(), "up") != up {
			t.Errorf("%s came back with mtu %d, mac %v, flags %v", name, attrs.MTU, attrs.HardwareAddr, attrs.Flags)
		}
		err = m.Do(func() error {
			if err := Idle(name); err != nil {
				t.Errorf("it is not as idle as before: %v", err)
			}
			on, err := ethtool(name, 0x16, false) // ETHTOOL_GTXCSUM
			if err == nil && !on {
				t.Errorf("the checksum offload of %s is off", name)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestAnInterfaceInUseIsNotBorrowed(t *testing.T) {
	for name, c := range map[string]struct {
		use  func(t *testing.T, m *Host, a *Link)
		want string
	}{
		"it has an address": {func(_ *testing.T, _ *Host, a *Link) { a.AddAddr(netip.MustParsePrefix("192.0.2.1/32")) }, "has the address 192.0.2.1/32"},
		"the default route leads through it": {func(t *testing.T, m *Host, a *Link) {
			if out, err := m.Command(t.Context(), "ip", "route", "add", "default", "dev", a.Name).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}, "a route leads through it"},
		"it is in a bridge": {func(t *testing.T, m *Host, a *Link) {
			bridge := m.NewBridge("br0")
			if err := m.Netlink().LinkSetMasterByIndex(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: a.Index}}, bridge.Index); err != nil {
				t.Fatal(err)
			}
		}, "belongs to a bridge"},
		"another link is on top of it": {func(t *testing.T, m *Host, a *Link) {
			err := m.Netlink().LinkAdd(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "top0", ParentIndex: a.Index}, Mode: netlink.MACVLAN_MODE_BRIDGE})
			if err != nil {
				t.Skip("no macvlan:", err)
			}
		}, "top0 is on top of it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, m, a, _ := machine(t)
			c.use(t, m, a)
			if err := m.Do(func() error { return Idle(a.Name) }); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not say %q", err, c.want)
			}
		})
	}
	if err := Idle("lo"); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("the loopback: %v", err)
	}
	if err := Idle("nonesuch0"); err == nil {
		t.Error("an interface that does not exist is idle")
	}
}
