package afxdp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicegw/sluice/afxdp"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// variantVariable in the environment names the variant that the role forward is.
const variantVariable = "SLUICE_BENCH_VARIANT"

// variant is another way to use the sockets.
type variant struct {
	umem    func(*afxdp.UMEMOptions)
	socket  func(*afxdp.SocketOptions)
	prepare func(*testing.B, *wire)
}

// variants that BenchmarkVariants holds against the defaults; the plain one shows what the comparison itself makes of two
// that are the same.
var variants = map[string]variant{
	"plain":      {},
	"frame-4096": {umem: func(o *afxdp.UMEMOptions) { o.FrameSize = 4096 }},
	"huge-pages": {umem: func(o *afxdp.UMEMOptions) { o.HugePages = true }}, // sysctl vm.nr_hugepages=16
	"busy-poll":  {socket: func(o *afxdp.SocketOptions) { o.BusyPoll = 20 * time.Microsecond }},
	"busy-poll-deferred": {
		socket:  func(o *afxdp.SocketOptions) { o.BusyPoll = 20 * time.Microsecond },
		prepare: deferInterrupts,
	},
	"udp-gso": {prepare: routeToSink},
}

// BenchmarkVariants floods one port and counts what arrives behind the other, with our forwarder and with a variant of it in
// turns.
func BenchmarkVariants(b *testing.B) {
	testenv.RequireRoot(b)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		for _, size := range []int{60, 1514} {
			b.Run(fmt.Sprintf("%s/%dB", name, size+4), func(b *testing.B) {
				w := newWire(b, size)
				if prepare := variants[name].prepare; prepare != nil {
					prepare(b, w)
				}
				ours := func(variant string) func(ctx context.Context, args ...string) *netnstest.Cmd {
					return func(ctx context.Context, args ...string) *netnstest.Cmd {
						cmd := w.gateway.Command(ctx, self, args...)
						cmd.Env = append(os.Environ(), roleVariable+"=forward", variantVariable+"="+variant)
						return cmd
					}
				}
				if name == "huge-pages" && !hugePages(b) {
					b.Skip("no huge pages are reserved: sysctl vm.nr_hugepages=16")
				}
				w.compare(b, &contestant{name: name, command: ours(name)}, &contestant{name: "default", command: ours("plain")})
			})
		}
	}
}

func hugePages(b *testing.B) bool {
	umem, err := afxdp.NewUMEM(afxdp.UMEMOptions{Frames: 8192, HugePages: true})
	if err != nil {
		b.Fatal(err)
	}
	return errors.Join(umem.Close()) == nil && umem.HugePages()
}

// deferInterrupts has both ports polled by the sockets rather than by interrupts, as busy polling wants it.
func deferInterrupts(b *testing.B, w *wire) {
	b.Helper()
	var script strings.Builder
	script.WriteString("mount -t sysfs sysfs /sys") // sysfs shows the namespace of who has mounted it
	for _, port := range []string{"left", "right"} {
		fmt.Fprintf(&script, " && echo 2 >/sys/class/net/%[1]s/napi_defer_hard_irqs && echo 200000 >/sys/class/net/%[1]s/gro_flush_timeout", port)
	}
	if out, err := w.gateway.Command(b.Context(), "unshare", "--mount", "sh", "-c", script.String()).CombinedOutput(); err != nil {
		b.Skipf("interrupts cannot be deferred: %v: %s", err, out)
	}
}
