package afxdp

import (
	"strings"
	"testing"
	"time"
)

func TestZeroOptionsWork(t *testing.T) {
	if err := (UMEMOptions{}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (SocketOptions{Ifindex: 1}).Validate(); err != nil {
		t.Error(err)
	}
	for _, size := range []int{1, 16, 32, 64, 1 << 20} {
		if err := (SocketOptions{Ifindex: 1, RxSize: size, TxSize: size, FillSize: size, CompletionSize: size}).Validate(); err != nil {
			t.Errorf("rings of %d: %v", size, err)
		}
	}
}

func TestValidateReportsAllProblems(t *testing.T) {
	_, err := NewHeapUMEM(UMEMOptions{Frames: -1, FrameSize: 3000, Headroom: 5000, Reserve: -1})
	wantTexts(t, err, "frames -1", "frame size 3000", "headroom 5000", "reserve -1")
	_, err = NewUMEM(UMEMOptions{Frames: 16, FrameSize: 1024, Headroom: -1, Reserve: 17})
	wantTexts(t, err, "frame size 1024", "headroom -1", "reserve 17")
	_, err = Open(heapUMEM(t, 8), SocketOptions{
		Queue: -1, Mode: 9, RxSize: 3, TxSize: -4, FillSize: 1 << 21, CompletionSize: 100,
		TxBudget: 5, BusyPoll: time.Minute, BusyPollBudget: -1,
	})
	wantTexts(t, err, "ifindex 0", "queue -1", "mode 9", "rx ring of 3", "tx ring of -4", "fill ring of 2097152", "completion ring of 100",
		"tx budget 5", "busy poll 1m0s", "busy poll budget -1")
}

func wantTexts(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}

func TestUMEMClosesOnce(t *testing.T) {
	for name, make := range map[string]func(UMEMOptions) (*UMEM, error){"mapped": NewUMEM, "on the heap": NewHeapUMEM} {
		u, err := make(UMEMOptions{Frames: 8})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := u.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := u.Alloc([]uint64{1}); n != 0 || u.Frames() != 0 {
			t.Errorf("%s: a closed UMEM has frames", name)
		}
		if _, err := Open(u, SocketOptions{Ifindex: 1}); err == nil {
			t.Errorf("%s: a closed UMEM got a socket", name)
		}
	}
}
