package xdp

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// table is a map that only Go writes, and what is known to be in it.
type table[K, V comparable] struct {
	name string
	m    *ebpf.Map
	have map[K]V
}

func newTable[K, V comparable](name string, m *ebpf.Map) *table[K, V] {
	return &table[K, V]{name: name, m: m, have: make(map[K]V)}
}

// add writes what is missing or different. Each write replaces one entry atomically.
func (t *table[K, V]) add(want map[K]V) error {
	for k, v := range want {
		if old, ok := t.have[k]; ok && old == v {
			continue
		}
		if err := t.m.Put(&k, &v); err != nil {
			return fmt.Errorf("add to %s: %w", t.name, err)
		}
		t.have[k] = v
	}
	return nil
}

// trim deletes what is not wanted.
func (t *table[K, V]) trim(want map[K]V) error {
	for k := range t.have {
		if _, ok := want[k]; ok {
			continue
		}
		if err := t.remove(k); err != nil {
			return err
		}
	}
	return nil
}

func (t *table[K, V]) remove(k K) error {
	if err := t.m.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete from %s: %w", t.name, err)
	}
	delete(t.have, k)
	return nil
}

// contents is what the maps should hold.
type contents struct {
	ports   map[bpfPortKey]bpfPort
	local   map[bpfAddress]uint32
	peers   map[bpfAddress]uint32
	udp     map[bpfUdpPortKey]bpfService
	vnis    map[uint32]bpfVniFlags
	routes4 map[bpfRoute4Key]bpfRoute
	routes6 map[bpfRoute6Key]bpfRoute
	hops    map[uint32]bpfHop
	direct  map[bpfAddress]uint32
}

type tables struct {
	ports   *table[bpfPortKey, bpfPort]
	local   *table[bpfAddress, uint32]
	peers   *table[bpfAddress, uint32]
	udp     *table[bpfUdpPortKey, bpfService]
	vnis    *table[uint32, bpfVniFlags]
	routes4 *table[bpfRoute4Key, bpfRoute]
	routes6 *table[bpfRoute6Key, bpfRoute]
	hops    *table[uint32, bpfHop]
	direct  *table[bpfAddress, uint32]
}

func newTables(m *bpfMaps) *tables {
	return &tables{
		ports:   newTable[bpfPortKey, bpfPort](bpfMapPorts, m.Ports),
		local:   newTable[bpfAddress, uint32](bpfMapLocalAddresses, m.LocalAddresses),
		peers:   newTable[bpfAddress, uint32](bpfMapPeerAddresses, m.PeerAddresses),
		udp:     newTable[bpfUdpPortKey, bpfService](bpfMapUdpPorts, m.UdpPorts),
		vnis:    newTable[uint32, bpfVniFlags](bpfMapVnis, m.Vnis),
		routes4: newTable[bpfRoute4Key, bpfRoute](bpfMapRoutes4, m.Routes4),
		routes6: newTable[bpfRoute6Key, bpfRoute](bpfMapRoutes6, m.Routes6),
		hops:    newTable[uint32, bpfHop](bpfMapHops, m.Hops),
		direct:  newTable[bpfAddress, uint32](bpfMapDirectPeers, m.DirectPeers),
	}
}

// apply adds everything before it deletes anything, so that no packet that is wanted before and after the change is
// missed meanwhile. Ports are added last and deleted first: they open the way to the rest.
func (t *tables) apply(c *contents) error {
	for _, step := range []func() error{
		func() error { return t.hops.add(c.hops) },
		func() error { return t.direct.add(c.direct) },
		func() error { return t.routes4.add(c.routes4) },
		func() error { return t.routes6.add(c.routes6) },
		func() error { return t.vnis.add(c.vnis) },
		func() error { return t.udp.add(c.udp) },
		func() error { return t.peers.add(c.peers) },
		func() error { return t.local.add(c.local) },
		func() error { return t.ports.add(c.ports) },
		func() error { return t.ports.trim(c.ports) },
		func() error { return t.local.trim(c.local) },
		func() error { return t.peers.trim(c.peers) },
		func() error { return t.udp.trim(c.udp) },
		func() error { return t.vnis.trim(c.vnis) },
		func() error { return t.routes4.trim(c.routes4) },
		func() error { return t.routes6.trim(c.routes6) },
		func() error { return t.direct.trim(c.direct) },
		func() error { return t.hops.trim(c.hops) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
