package main

import (
	"bytes"
	"errors"
	"testing"
)

func TestAFilterIsCompiledForBothKindsOfPacket(t *testing.T) {
	ethernet, ip, err := compileFilter(t.Context(), "udp port 53")
	if err != nil || len(ethernet) == 0 || len(ethernet)%8 != 0 || len(ip) == 0 || len(ip)%8 != 0 || bytes.Equal(ethernet, ip) {
		t.Errorf("%x, %x, %v", ethernet, ip, err)
	}
	ethernet, ip, err = compileFilter(t.Context(), "ether multicast")
	if err != nil || len(ethernet) == 0 || !bytes.Equal(ip, retZero) {
		t.Errorf("what only Ethernet has: %x, %x, %v", ethernet, ip, err)
	}
	if _, _, err = compileFilter(t.Context(), "foo bar"); !errors.As(err, new(usageError)) {
		t.Errorf("no filter: %v", err)
	}
}
