package traffic

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"github.com/sluicegw/sluice/internal/packet"
)

// scheduleLen is SCHEDULE, templateLen MAX_HEADER of bpf/generator.c.
const (
	scheduleLen = 1536
	templateLen = 136
)

// tables are what the generator's program reads.
type tables struct {
	layout   generatorLayout
	template [templateLen / 8]uint64
	sizes    [maxSizes]generatorSize
	schedule [scheduleLen]uint8
	flows    []generatorFlow
	longest  int // frame
}

// tables are read off frames that frame has made, so that what is on the wire is written down only once.
func (f Flow) tables() *tables {
	o := f.offsets()
	t := &tables{flows: make([]generatorFlow, f.Flows)}
	for i, s := range f.Sizes {
		length := o.ip + s.Size
		t.longest = max(t.longest, length)
		t.sizes[i] = generatorSize{Frame: uint32(length), UdpLen: network(length - o.udp)}
		t.sizes[i].IpLen = ipLengthField(f.Inner, s.Size)
		if o.outerIP > 0 {
			t.sizes[i].OuterIpLen = ipLengthField(f.Outer, length-o.outerIP)
			t.sizes[i].OuterUdpLen = network(length - o.outerIP - ipLen(f.Outer.Src))
		}
	}
	t.schedule = f.schedule()
	smallest := o.stamp + stampLen - o.ip
	header := f.frame(stamp{flow: uint16(f.First)}, smallest)[:o.stamp]
	for i, b := range header {
		t.template[i/8] |= uint64(b) << (i % 8 * 8)
	}

	l := &t.layout
	l.Stamp, l.Frame = uint32(o.stamp), uint32(t.longest)
	l.FirstFlow = uint32(f.First)
	l.Flows, l.Sizes, l.Schedule = uint32(f.Flows), uint32(len(f.Sizes)), uint32(len(f.Sizes))
	if len(f.Sizes) > 1 {
		l.Schedule = uint32(scheduleLen - scheduleLen%f.weights())
	}
	src, dst := 12, 16
	l.IpLen, l.IpSum = uint32(o.ip+2), uint32(o.ip+10)
	if f.Inner.Src.Is6() {
		src, dst = 8, 24
		l.IpLen, l.IpSum = uint32(o.ip+4), 0
	}
	l.Src, l.Dst = uint32(o.ip+src+f.Sources.word()), uint32(o.ip+dst+f.Destinations.word())
	l.Sport, l.UdpLen, l.UdpSum = uint32(o.udp), uint32(o.udp+4), uint32(o.udp+6)
	outerUDP := o.outerIP
	if o.outerIP > 0 {
		outerUDP += ipLen(f.Outer.Src)
		l.Vni = uint32(o.tunnel + 4)
		l.OuterSport, l.OuterUdpLen = uint32(outerUDP), uint32(outerUDP+4)
		l.OuterIpLen, l.OuterIpSum = uint32(o.outerIP+2), uint32(o.outerIP+10)
		if f.Outer.Src.Is6() {
			l.OuterIpLen, l.OuterIpSum = uint32(o.outerIP+4), 0
		}
	}

	for i := range t.flows {
		b := f.frame(stamp{flow: uint16(f.First + i)}, smallest)
		clear(b[o.stamp:])
		flow := &t.flows[i]
		flow.Src = binary.NativeEndian.Uint32(b[l.Src:])
		flow.Dst = binary.NativeEndian.Uint32(b[l.Dst:])
		flow.Sport = binary.NativeEndian.Uint16(b[l.Sport:])
		if o.outerIP > 0 {
			flow.Vni = binary.NativeEndian.Uint32(b[l.Vni:])
			flow.OuterSport = binary.NativeEndian.Uint16(b[outerUDP:])
		}
		pseudo := packet.PseudoSum(b[o.ip:], packet.ProtoUDP, 0)
		clear(b[l.UdpLen : l.UdpLen+4]) // and the checksum
		flow.UdpSum = uint32(bits.ReverseBytes16(packet.Sum(pseudo, b[o.udp:])))
		if l.IpSum > 0 {
			flow.IpSum = headerSum(b, int(l.IpLen), o.ip)
		}
		if l.OuterIpSum > 0 {
			flow.OuterIpSum = headerSum(b, int(l.OuterIpLen), o.outerIP)
		}
	}
	return t
}

// headerSum is the sum of an IPv4 header without its length, in the byte order of the machine.
func headerSum(b []byte, length, ip int) uint16 {
	clear(b[length : length+2])
	clear(b[ip+10 : ip+12])
	return bits.ReverseBytes16(packet.Sum(0, b[ip:ip+packet.IPv4Len]))
}

func ipLengthField(l Layer, length int) uint16 {
	if l.Src.Is6() {
		length -= packet.IPv6Len
	}
	return network(length)
}

// network is a 16-bit number in network byte order, as a number of this machine.
func network(n int) uint16 { return bits.ReverseBytes16(uint16(n)) }

// schedule is the order of sizes: as many whole mixes as fit, shuffled, so that flows that come in turns all get all sizes.
func (f Flow) schedule() (s [scheduleLen]uint8) {
	if len(f.Sizes) == 1 {
		return s
	}
	n := scheduleLen - scheduleLen%f.weights()
	for at := 0; at < n; {
		for i, share := range f.Sizes {
			for range share.Weight {
				s[at] = uint8(i)
				at++
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2)) // the same every time: a run can be repeated
	r.Shuffle(n, func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}
