package afxdp

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// rivals are the forwarders that ours meets: in C on libxdp, and in Go on the library asavie/xdp, which is built from
// the module proxy: once as fast as we could make it, and once as the library's own example does it.
var rivals = []rival{
	{name: "xskfwd", needs: "packages gcc, libxdp-dev, libbpf-dev", compile: func(binary string) *exec.Cmd {
		return exec.Command("cc", "-O2", "-o", binary, "../baselines/xskfwd/xskfwd.c", "-lxdp", "-lbpf")
	}},
	{name: "asavie", needs: asavieNeeds, compile: compileAsavie},
	{name: "asavie-example", needs: asavieNeeds, compile: compileAsavie, args: []string{"example"}},
}

const asavieNeeds = "its module, from the module proxy"

func compileAsavie(binary string) *exec.Cmd {
	cmd := exec.Command("go", "build", "-o", binary, ".")
	cmd.Dir = "../baselines/asavie"
	return cmd
}

// rival is a forwarder that is built when it is measured.
type rival struct {
	name    string
	needs   string // what building it takes
	compile func(binary string) *exec.Cmd
	args    []string // after those that all of them take
}

// build builds it. What cannot be built is not measured, and the compiler or the proxy says why.
func (r rival) build(b *testing.B) string {
	b.Helper()
	binary := filepath.Join(b.TempDir(), r.name)
	if out, err := r.compile(binary).CombinedOutput(); err != nil {
		b.Skipf("%s is unavailable: it cannot be built (%s): %v\n%s", r.name, r.needs, err, out)
	}
	return binary
}
