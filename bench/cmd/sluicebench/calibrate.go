package main

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sluicegw/sluice/bench/method"
)

// newCalibrator takes the pulse with an XDP program that drops, where it may be loaded.
func newCalibrator() (*method.Calibrator, func(), error) {
	const xdpDrop = 1
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "pulse", Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpDrop), asm.Return()},
	})
	if err != nil {
		say("without privilege the pulse is taken in user space alone (%v)", err)
		return method.NewCalibrator(nil), func() {}, nil
	}
	packet := make([]byte, 64)
	drop := func() (time.Duration, error) {
		verdict, took, err := program.Benchmark(packet, 100_000, func() {})
		if err == nil && verdict != xdpDrop {
			err = fmt.Errorf("verdict %d", verdict)
		}
		return took, err
	}
	return method.NewCalibrator(drop), func() { program.Close() }, nil
}
