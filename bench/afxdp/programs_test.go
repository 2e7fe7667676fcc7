package afxdp

import (
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// XDP verdicts (linux/bpf.h).
const (
	xdpDrop = 1
	xdpPass = 2
)

// etherType marks the benchmark's packets (IEEE 802 local experimental).
const etherType = 0x88b5

// attachRedirect counts the benchmark's packets on a port and gives them to the socket of their queue.
func attachRedirect(b *testing.B, port *netnstest.Link) (xsks, counter *ebpf.Map) {
	b.Helper()
	xsks = newMap(b, &ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	counter = newCounter(b)
	attach(b, port, countOurs(counter),
		asm.LoadMapPtr(asm.R1, xsks.FD()),
		asm.LoadMem(asm.R2, asm.R6, 16, asm.Word), // rx_queue_index
		asm.Mov.Imm(asm.R3, xdpDrop),              // between two slices there is no socket
		asm.FnRedirectMap.Call(),
		asm.Return(),
	)
	return xsks, counter
}

// attachSink counts and drops the benchmark's packets.
func attachSink(b *testing.B, port *netnstest.Link) *ebpf.Map {
	b.Helper()
	counter := newCounter(b)
	attach(b, port, countOurs(counter), asm.Mov.Imm(asm.R0, xdpDrop), asm.Return())
	return counter
}

func newCounter(b *testing.B) *ebpf.Map {
	b.Helper()
	return newMap(b, &ebpf.MapSpec{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1})
}

// countOurs passes what is not the benchmark's and counts what is; the program goes on with the context in R6.
func countOurs(counter *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, 14),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R5, asm.R2, 12, asm.Half),
		asm.HostTo(asm.BE, asm.R5, asm.Half),
		asm.JEq.Imm(asm.R5, etherType, "ours"),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"),
		asm.Return(),
		asm.StoreImm(asm.R10, -4, 0, asm.Word).WithSymbol("ours"),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, counter.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
	}
}

// generator redirects every packet it is run on out of an interface. The pages of live frames are used again
// with whatever their last receiver has left in them, so the header is written anew each time.
func generator(ifindex int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, 14),
		asm.JGT.Reg(asm.R4, asm.R3, "drop"),
		asm.StoreImm(asm.R2, 0, -1, asm.Word), // to all
		asm.StoreImm(asm.R2, 4, 0x02ffff, asm.Word),
		asm.StoreImm(asm.R2, 8, 0x01000000, asm.Word), // from 02:00:00:00:00:01
		asm.StoreImm(asm.R2, 12, etherType>>8|etherType<<8&0xff00, asm.Half),
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, xdpDrop).WithSymbol("drop"),
		asm.Return(),
	}
}

func newMap(b *testing.B, spec *ebpf.MapSpec) *ebpf.Map {
	b.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m
}

func attach(b *testing.B, port *netnstest.Link, first asm.Instructions, rest ...asm.Instruction) {
	b.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Dual BSD/GPL", Instructions: append(first, rest...)})
	if err != nil {
		b.Fatal(err)
	}
	defer program.Close()
	err = port.Host.Do(func() error {
		l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: port.Index, Flags: link.XDPDriverMode})
		if err == nil {
			b.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

func mapID(b *testing.B, m *ebpf.Map) string {
	b.Helper()
	info, err := m.Info()
	if err != nil {
		b.Fatal(err)
	}
	id, ok := info.ID()
	if !ok {
		b.Fatal("the kernel gives maps no identifiers")
	}
	return strconv.FormatUint(uint64(id), 10)
}

func total(b *testing.B, counter *ebpf.Map) (sum uint64) {
	b.Helper()
	var perCPU []uint64
	if err := counter.Lookup(uint32(0), &perCPU); err != nil {
		b.Fatal(err)
	}
	for _, n := range perCPU {
		sum += n
	}
	return sum
}

// runGenerator floods until the process is killed.
func runGenerator(ifindex, size int) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Dual BSD/GPL", Instructions: generator(ifindex)})
	if err != nil {
		return err
	}
	defer program.Close()
	for {
		// One long call: each sleeps 20 ms while it sets up its pages.
		_, err := program.Run(&ebpf.RunOptions{Data: make([]byte, size), Repeat: 1 << 31, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES})
		if err != nil {
			return err
		}
	}
}
