// Package testenv says what a test may expect of the machine that it runs on.
//
// A test that needs the kernel (namespaces, XDP, AF_XDP) or another program
// (Open vSwitch, wireguard-go) asks here first. Where the machine makes no
// promise, such a test is skipped; where it does (CI=true, or
// SLUICE_REQUIRE_ROOT=1 as `make test` sets it), the test fails: a check that
// silently does not run is worse than none. The package installs nothing; that
// is what setup.sh beside it is for.
//
//	func TestPortForwards(t *testing.T) {
//		testenv.RequireRoot(t)
//		testenv.RequireTool(t, "wireguard-go")
//		...
//	}
//
// All functions are to be called from the test's own goroutine.
package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// TB is what this package needs of a *testing.T or *testing.B. It is no
// testing.TB, so that programs that share code with tests need not link the
// testing package.
type TB interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
}

// promised reports whether this machine promises privilege and tools, so that
// what is missing is a failure.
func promised() bool {
	return os.Getenv("CI") == "true" || os.Getenv("SLUICE_REQUIRE_ROOT") == "1"
}

// Missing ends the test: it is skipped, or failed where the machine promises to
// have everything.
func Missing(t TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if promised() {
		t.Fatalf("%s (CI=true or SLUICE_REQUIRE_ROOT=1 promises it)", reason)
	}
	t.Skip(reason)
}

// RequireRoot ends the test unless it may set up links and load eBPF:
// CAP_NET_ADMIN, and CAP_BPF or CAP_SYS_ADMIN.
func RequireRoot(t TB) {
	t.Helper()
	caps, err := effective()
	if err != nil {
		t.Fatal(err)
	}
	if !caps.has(unix.CAP_NET_ADMIN) || !(caps.has(unix.CAP_BPF) || caps.has(unix.CAP_SYS_ADMIN)) {
		Missing(t, "needs CAP_NET_ADMIN and CAP_BPF (or CAP_SYS_ADMIN)")
	}
}

// Namespaces reports why this process may not make network namespaces and mount
// them by name; nil if it may.
func Namespaces() error {
	caps, err := effective()
	if err == nil && !(caps.has(unix.CAP_NET_ADMIN) && caps.has(unix.CAP_SYS_ADMIN)) {
		err = errors.New("needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)")
	}
	return err
}

// RequireNamespaces ends the test unless it may make network namespaces.
func RequireNamespaces(t TB) {
	t.Helper()
	if err := Namespaces(); err != nil {
		Missing(t, "%v", err)
	}
}

// RequireTool ends the test unless all the programs are in the PATH. The
// administrator's folders count, as root has them and a plain user may not.
func RequireTool(t TB, names ...string) {
	t.Helper()
	var absent []string
	for _, name := range names {
		if _, err := LookTool(name); err != nil {
			absent = append(absent, name)
		}
	}
	if len(absent) > 0 {
		Missing(t, "needs %s (internal/testenv/setup.sh test installs it)", strings.Join(absent, ", "))
	}
}

// LookTool finds a program in the PATH or in the administrator's folders.
func LookTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin/", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", err
}

// capabilities is the effective set of the calling thread, bit n for capability n.
type capabilities uint64

func (c capabilities) has(n int) bool { return c&(1<<n) != 0 }

func effective() (capabilities, error) {
	// Version 3 is the one with 64 bits, in two halves (capget(2)).
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return capabilities(uint64(data[1].Effective)<<32 | uint64(data[0].Effective)), nil
}
