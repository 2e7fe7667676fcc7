package relay

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

var update = flag.Bool("update", false, "write testdata/*.pcap anew")

// What each case sends and what comes out is a pair of captures. Ciphertext
// differs from run to run, so on the WAN side a capture holds what is inside of
// WireGuard: bare IP packets. Read a pair with any capture tool; after a change
// that is meant to show on the wire:
//
//	go test ./relay -run Golden -update && git diff --stat

func TestGoldenSiteToWAN(t *testing.T) {
	goldenCases(t, "out", func(t *testing.T, p *pair, v vpcName, place, version int, in [][]byte) [][]byte {
		port, _ := fromHost(v, 1, place, goldenInner(v, 1, place, version)[0])
		for _, b := range in {
			p.a.queues[0][port].Inject(b)
		}
		p.a.turn()
		return p.plainOf(t)
	}, func(v vpcName, place, version int) (frames [][]byte) {
		for _, inner := range goldenInner(v, 1, place, version) {
			_, b := fromHost(v, 1, place, inner)
			frames = append(frames, b)
		}
		return frames
	}, layers.LinkTypeEthernet, layers.LinkTypeRaw)
}

func TestGoldenWANToSite(t *testing.T) {
	goldenCases(t, "in", func(t *testing.T, p *pair, v vpcName, place, version int, in [][]byte) [][]byte {
		p.sealTo(t, in...)
		p.a.turn()
		if place == atRouted {
			return p.a.got(v.routedPort())
		}
		return p.a.got(sitePort)
	}, func(v vpcName, place, version int) (plain [][]byte) {
		for _, inner := range goldenInner(v, 2, place, version) {
			if v != defaultVPC {
				inner = tunnelled(v.vni(1), etherTypeOfPacket(inner), inner)
			}
			plain = append(plain, inner)
		}
		return plain
	}, layers.LinkTypeRaw, layers.LinkTypeEthernet)
}

// goldenInner are the packets of a case, from a place of site `from` to the
// same place of the other: TCP, UDP with a DSCP, a ping, one as long as fits.
func goldenInner(v vpcName, from, place, version int) [][]byte {
	src, dst := v.host(from, place, version), v.host(3-from, place, version)
	return [][]byte{
		tcpPacket(src, dst, []byte("GET / HTTP/1.1\r\n\r\n")),
		udpPacket(src, dst, 17, 0xb8, 5004, 5005, []byte{0x80}),
		echoPacket(src, dst, 1, 2, []byte("abcdefgh")),
		udpPacket(src, dst, 64, 0, 1, 2, bytes.Repeat([]byte{0x5a}, 1404-48)),
	}
}

func goldenCases(t *testing.T, direction string, run func(*testing.T, *pair, vpcName, int, int, [][]byte) [][]byte,
	build func(v vpcName, place, version int) [][]byte, inType, wantType layers.LinkType) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	for _, v := range []vpcName{defaultVPC, red} {
		for place := atVXLAN4; place < places; place++ {
			for _, version := range []int{4, 6} {
				name := fmt.Sprintf("%s-%v-%s-inner%d", direction, v, [...]string{atVXLAN4: "vxlan4", atGeneve4: "geneve4", atRouted: "routed", atVXLAN6: "vxlan6", atGeneve6: "geneve6"}[place], version)
				t.Run(name, func(t *testing.T) {
					in, want := filepath.Join("testdata", name+".in.pcap"), filepath.Join("testdata", name+".want.pcap")
					if *update {
						writeCapture(t, in, inType, build(v, place, version))
					}
					got := run(t, p, v, place, version, readCapture(t, in))
					if *update {
						writeCapture(t, want, wantType, got)
					}
					compare(t, wantType, got, readCapture(t, want))
				})
			}
		}
	}
}

// goldenExchange sends frames, one after the other, into site 1's overlay port, and pins what the port sends back and what
// arrives at a port of site 2. One of both must hold something.
func goldenExchange(t *testing.T, p *pair, name string, frames [][]byte, arrivesAt uint32) {
	t.Helper()
	in, back, arrives := filepath.Join("testdata", name+".in.pcap"), filepath.Join("testdata", name+".want.pcap"), filepath.Join("testdata", name+".arrives.pcap")
	if *update {
		writeCapture(t, in, layers.LinkTypeEthernet, frames)
	}
	for _, frame := range readCapture(t, in) {
		p.a.queues[0][sitePort].Inject(frame)
		p.settle()
	}
	gotBack, gotArrives := p.a.got(sitePort), p.b.got(arrivesAt)
	if *update {
		writeCapture(t, back, layers.LinkTypeEthernet, gotBack)
		writeCapture(t, arrives, layers.LinkTypeEthernet, gotArrives)
	}
	if len(gotBack)+len(gotArrives) == 0 {
		t.Fatal("nothing came out")
	}
	same(t, layers.LinkTypeEthernet, gotBack, readCapture(t, back))
	same(t, layers.LinkTypeEthernet, gotArrives, readCapture(t, arrives))
}

// compare shows the first difference layer by layer.
func compare(t *testing.T, link layers.LinkType, got, want [][]byte) {
	t.Helper()
	if len(want) == 0 {
		t.Fatal("a case without packets")
	}
	same(t, link, got, want)
}

// same is compare for cases in which nothing may come out.
func same(t *testing.T, link layers.LinkType, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("packet %d:\n got %v\nwant %v", i, gopacket.NewPacket(got[i], link, gopacket.Default), gopacket.NewPacket(want[i], link, gopacket.Default))
		}
	}
}

func writeCapture(t *testing.T, name string, link layers.LinkType, packets [][]byte) {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	check(t, w.WriteFileHeader(65535, link))
	for i, data := range packets {
		check(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(data), Length: len(data)}, data))
	}
	check(t, os.MkdirAll(filepath.Dir(name), 0o755))
	check(t, os.WriteFile(name, b.Bytes(), 0o644))
}

func readCapture(t *testing.T, name string) (packets [][]byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	check(t, err)
	r, err := pcapgo.NewReader(bytes.NewReader(b))
	check(t, err)
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return packets
		}
		check(t, err)
		packets = append(packets, data)
	}
}
