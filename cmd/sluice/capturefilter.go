package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// compileFilter turns a filter into classic BPF for the two kinds of packet that
// a capture has. The compiler is libpcap's, by way of tcpdump (-ddd prints the
// program, -y needs no interface): there is but one definition of the syntax, and
// libpcap itself cannot be linked into a static program of Go.
func compileFilter(ctx context.Context, filter string) (ethernet, ip []byte, err error) {
	if ethernet, err = compileFor(ctx, "EN10MB", filter); err != nil {
		return nil, nil, err
	}
	ip, err = compileFor(ctx, "RAW", filter)
	if errors.As(err, new(usageError)) {
		return ethernet, retZero, nil // it speaks of Ethernet: no bare packet matches
	}
	return ethernet, ip, err
}

// retZero is a program that takes no packet.
var retZero = []byte{0, 6, 0, 0, 0, 0, 0, 0}

func compileFor(ctx context.Context, link, filter string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "tcpdump", "-ddd", "-y", link, "--", filter)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	switch err := cmd.Run(); {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("a filter is compiled by tcpdump, which is not installed here (apt-get install tcpdump)")
	case err != nil && errs.Len() > 0:
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		return nil, usageError{fmt.Errorf("filter: %s", strings.TrimPrefix(lines[len(lines)-1], "tcpdump: "))}
	case err != nil:
		return nil, fmt.Errorf("tcpdump: %w", err)
	}
	return parseProgram(out.String())
}

// parseProgram reads what tcpdump -ddd prints: how many instructions, and the four
// numbers of each.
func parseProgram(text string) ([]byte, error) {
	r := strings.NewReader(text)
	var n int
	if _, err := fmt.Fscan(r, &n); err != nil {
		return nil, fmt.Errorf("read the program of tcpdump: %w", err)
	}
	var program []byte
	for range n {
		var code uint16
		var jt, jf uint8
		var k uint32
		if _, err := fmt.Fscan(r, &code, &jt, &jf, &k); err != nil {
			return nil, fmt.Errorf("read the program of tcpdump: %w", err)
		}
		program = binary.BigEndian.AppendUint16(program, code)
		program = binary.BigEndian.AppendUint32(append(program, jt, jf), k)
	}
	return program, nil
}
