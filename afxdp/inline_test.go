package afxdp

import (
	"os/exec"
	"strings"
	"testing"
)

// TestWhatRunsPerPacketIsInlined holds the compiler to it: a call for each of four moves is a third of what a packet costs here.
func TestWhatRunsPerPacketIsInlined(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Skipf("there is no compiler here: %v", err)
	}
	for _, f := range []string{"(*pool).move", "(*pool).push", "(*pool).take", "(*UMEM).Frame", "(*UMEM).FrameBase", "(*UMEM).holds", "(*ring).room", "(*ring).ready"} {
		if !strings.Contains(string(out), "can inline "+f+"\n") {
			t.Errorf("%s is not inlined", f)
		}
	}
}
