package xdp

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// sockets keeps the map of AF_XDP sockets: each interface has a slot of MaxQueues entries in it.
type sockets struct {
	m      *ebpf.Map
	slots  map[int]uint32 // by ifindex
	queues map[int]int    // by ifindex
}

func newSockets(m *ebpf.Map) *sockets {
	return &sockets{m: m, slots: make(map[int]uint32), queues: make(map[int]int)}
}

// addInterfaces gives new interfaces a slot. The map has twice as many slots as a State may have interfaces, since those
// of the old state are still held.
func (s *sockets) addInterfaces(ports []Port) {
	for ifindex, n := range queues(ports) {
		if _, ok := s.slots[ifindex]; !ok {
			s.slots[ifindex] = s.freeSlot()
		}
		s.queues[ifindex] = max(s.queues[ifindex], n)
	}
}

// queues is the number of queues by ifindex: the largest that any port on it has.
func queues(ports []Port) map[int]int {
	out := make(map[int]int)
	for _, p := range ports {
		n := p.Queues
		if n == 0 {
			n = MaxQueues
		}
		out[p.Ifindex] = max(out[p.Ifindex], n)
	}
	return out
}

func (s *sockets) freeSlot() uint32 {
	used := make(map[uint32]bool, len(s.slots))
	for _, slot := range s.slots {
		used[slot] = true
	}
	var slot uint32
	for used[slot] {
		slot++
	}
	return slot
}

// keepInterfaces clears the sockets of all other interfaces and queues, and gives up what is not needed any more.
func (s *sockets) keepInterfaces(ports []Port) error {
	want := queues(ports)
	for ifindex, n := range s.queues {
		for queue := want[ifindex]; queue < n; queue++ {
			if err := s.clear(ifindex, queue); err != nil {
				return fmt.Errorf("clear socket of ifindex %d queue %d: %w", ifindex, queue, err)
			}
		}
		s.queues[ifindex] = want[ifindex]
		if want[ifindex] == 0 {
			delete(s.slots, ifindex)
			delete(s.queues, ifindex)
		}
	}
	return nil
}

func (s *sockets) index(ifindex, queue int) (uint32, error) {
	slot, ok := s.slots[ifindex]
	if !ok {
		return 0, errors.New("no port of the state is on this interface")
	}
	if queue < 0 || queue >= s.queues[ifindex] {
		return 0, fmt.Errorf("the port has queues 0 to %d", s.queues[ifindex]-1)
	}
	return slot*MaxQueues + uint32(queue), nil
}

func (s *sockets) set(ifindex, queue, fd int) error {
	index, err := s.index(ifindex, queue)
	if err != nil {
		return err
	}
	return s.m.Put(index, uint32(fd))
}

func (s *sockets) clear(ifindex, queue int) error {
	index, err := s.index(ifindex, queue)
	if err != nil {
		return err
	}
	if err := s.m.Delete(index); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}
