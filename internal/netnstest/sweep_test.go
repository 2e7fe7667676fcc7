package netnstest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// leave is the body of a process that is killed before it can clean up.
func leave() {
	s, err := Open(Options{Label: "left " + os.Getenv("NETNSTEST_LEAVE")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	h := s.NewHost("left")
	h.NewBridge("br0")
	if err := h.Command(context.Background(), "sh", "-c", "setsid sleep 1000 & exec sleep 1000").Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.ID())
	select {}
}

// leaver starts a process that makes a scope, and returns the scope's id.
func leaver(t *testing.T, label string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NETNSTEST_LEAVE="+label)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if err := Sweep(); err != nil {
			t.Error(err)
		}
	})
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(line[:n]))
	if !strings.HasPrefix(id, prefix) {
		t.Fatalf("the process said %q", id)
	}
	return cmd, id
}

func TestSweepRemovesWhatKilledProcessesLeft(t *testing.T) {
	New(t)
	cmd, id := leaver(t, "killed")
	path := filepath.Join(netnsDir, id+"-left")
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(path, &st); err != nil {
		t.Fatalf("sweep took the namespace of a living process: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	assertGone(t, id, st.Ino)
}

func TestEndOwnersEndsTheLivingOnesOfItsLabel(t *testing.T) {
	New(t)
	_, id := leaver(t, t.Name())
	cmd, _ := leaver(t, "other")
	owners, err := Find("left " + t.Name())
	if err != nil {
		t.Fatal(err)
	}
	if len(owners) != 1 || owners[0].ID != id {
		t.Fatalf("found %+v, want %s", owners, id)
	}
	n, err := EndOwners("left "+t.Name(), 5*time.Second)
	if err != nil || n != 1 {
		t.Fatalf("ended %d, %v", n, err)
	}
	if left, _ := filepath.Glob(netnsDir + "/" + id + "*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := cmd.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the process of another label: %v", err)
	}
}
