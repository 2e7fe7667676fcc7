package afxdp

import (
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// xdpDrop is a verdict of linux/bpf.h.
const xdpDrop = 1

// attachRedirect gives every packet of a port to the socket of its queue.
func attachRedirect(b *testing.B, port *netnstest.Link) *ebpf.Map {
	b.Helper()
	xsks, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { xsks.Close() })
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Dual BSD/GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 16, asm.Word), // rx_queue_index
		asm.LoadMapPtr(asm.R1, xsks.FD()),
		asm.Mov.Imm(asm.R3, xdpDrop), // between two slices there is no socket
		asm.FnRedirectMap.Call(),
		asm.Return(),
	}})
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
	return xsks
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
