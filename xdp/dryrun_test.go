package xdp

import (
	"testing"

	"github.com/sluicegw/sluice/internal/testenv"
)

func TestADryRunDecidesAsTheProgram(t *testing.T) {
	testenv.RequireRoot(t)
	h := newHarness(t, Options{}, testState())
	h.openSocket(t, loopback, 0)
	short := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	arp := append(append([]byte(nil), short[:12]...), append([]byte{8, 6}, make([]byte, 46)...)...)
	routed := append(append([]byte(nil), short...), 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 172, 16, 2, 9)
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(routed[i])<<8 | uint32(routed[i+1])
	}
	sum = sum>>16 + sum&0xffff
	routed[24], routed[25] = byte(^sum>>8), byte(^sum)
	for packet, want := range map[string]Verdict{string(short): PassBadIP, string(arp): PassNotIP, string(routed): DivertRouted} {
		got, err := DryRun(testState(), []byte(packet), loopback)
		if err != nil || got != want {
			t.Errorf("%x: %v, %v; want %v", packet, got, err, want)
		}
		if live := h.run(t, []byte(packet), loopback, 0); live != got {
			t.Errorf("%x: the program says %v, a dry run %v", packet, live, got)
		}
	}
}
