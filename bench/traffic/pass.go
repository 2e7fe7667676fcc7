package traffic

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// Pass is an XDP program that passes everything. On a veth it makes the end take live frames, and it keeps
// super-packets (segmentation offload) from crossing, as a wire would.
type Pass struct{ link link.Link }

// NewPass attaches to an interface of a host; without a host, of the namespace of the thread that calls.
func NewPass(h *netnstest.Host, name string) (*Pass, error) {
	const xdpPass = 2 // linux/bpf.h
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "pass", Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		return nil, fmt.Errorf("pass on %s: %w", name, err)
	}
	defer program.Close() // the link keeps it
	l, err := attach(h, name, program, false)
	if err != nil {
		return nil, fmt.Errorf("pass on %s: %w", name, err)
	}
	return &Pass{link: l}, nil
}

// Close detaches.
func (p *Pass) Close() error { return p.link.Close() }
