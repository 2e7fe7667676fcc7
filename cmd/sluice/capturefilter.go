package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sluicegw/sluice/internal/pcapfilter"
)

// compileFilter turns a filter into classic BPF for the two kinds of packet that
// a capture has, as the API carries it: eight bytes for each instruction, big-endian.
func compileFilter(ctx context.Context, filter string) (ethernet, ip []byte, err error) {
	if ethernet, err = compileFor(ctx, pcapfilter.Ethernet, filter); err != nil {
		return nil, nil, err
	}
	ip, err = compileFor(ctx, pcapfilter.RawIP, filter)
	if errors.As(err, new(usageError)) {
		return ethernet, retZero, nil // it speaks of Ethernet: no bare packet matches
	}
	return ethernet, ip, err
}

// retZero is a program that takes no packet.
var retZero = []byte{0, 6, 0, 0, 0, 0, 0, 0}

func compileFor(ctx context.Context, link pcapfilter.LinkType, filter string) ([]byte, error) {
	instructions, err := pcapfilter.Compile(ctx, link, filter)
	if problem := pcapfilter.Error(""); errors.As(err, &problem) {
		return nil, usageError{fmt.Errorf("filter: %s", problem)}
	}
	if err != nil {
		return nil, err
	}
	var program []byte
	for _, i := range instructions {
		program = binary.BigEndian.AppendUint16(program, i.Op)
		program = binary.BigEndian.AppendUint32(append(program, i.Jt, i.Jf), i.K)
	}
	return program, nil
}
