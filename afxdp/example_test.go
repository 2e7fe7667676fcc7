package afxdp_test

import (
	"errors"
	"log"
	"net"
	"testing"

	"github.com/sluicegw/sluice/afxdp"
)

// Example forwards between two interfaces of the current network namespace, whose XDP programs redirect to
// the sockets, until 1000 packets have gone each way or an interface is gone.
func Example() {
	umem, err := afxdp.NewUMEM(afxdp.UMEMOptions{HugePages: true})
	if err != nil {
		log.Fatal(err)
	}
	var ports [2]*afxdp.Socket
	for i, name := range []string{"left", "right"} {
		device, err := net.InterfaceByName(name)
		if err != nil {
			log.Fatal(err)
		}
		if ports[i], err = afxdp.Open(umem, afxdp.SocketOptions{Ifindex: device.Index}); err != nil {
			log.Fatal(err)
		}
		register(name, ports[i].FD()) // into the XSKMAP of the XDP program
	}

	batch := make([]afxdp.Desc, 64)
	var forwarded [2]int
	for forwarded[0] < 1000 || forwarded[1] < 1000 {
		for i, in := range ports {
			out := ports[1-i]
			n := in.Receive(batch)
			in.Fill()
			sent := out.Send(batch[:n])
			for _, d := range batch[sent:n] { // the TX ring is full
				umem.Free(d.Addr)
			}
			if err := out.Kick(); errors.Is(err, afxdp.ErrGone) {
				return
			}
			out.Reclaim()
			forwarded[i] += sent
		}
	}
	for _, s := range ports {
		if err := s.Close(); err != nil {
			log.Fatal(err)
		}
	}
	if err := umem.Close(); err != nil {
		log.Fatal(err)
	}
}

// register stands for the loader of the XDP program, which is not this package's business.
var register = func(name string, fd int) {}

func TestExampleForwards(t *testing.T) {
	b := newBench(t, 1)
	ready := make(chan struct{}, 2)
	defer func(before func(string, int)) { register = before }(register)
	register = func(name string, fd int) {
		xsks := b.leftXSKs
		if name == "right" {
			xsks = b.rightXSKs
		}
		if err := xsks.Put(uint32(0), uint32(fd)); err != nil {
			t.Error(err)
		}
		ready <- struct{}{}
	}
	done := make(chan error)
	go func() { done <- b.gateway.Do(func() error { Example(); return nil }) }()
	<-ready
	<-ready
	for first := 0; first < 1000; first += 50 {
		b.inject(b.leftPacket, first, 50, 60)
		b.wantPackets(b.rightPacket, first, 50, 60, func() {})
		b.inject(b.rightPacket, first, 50, 60)
		b.wantPackets(b.leftPacket, first, 50, 60, func() {})
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
