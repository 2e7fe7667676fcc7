package contestants

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// XFRM is the kernel's IPsec: ESP in tunnel mode with AES-256-GCM and fixed keys. It needs a kernel with
// CONFIG_INET_ESP.
type XFRM struct{}

// Name of the contestant.
func (XFRM) Name() string { return "kernel-esp" }

// Attachments of the contestant.
func (XFRM) Attachments() []string { return []string{scenario.VXLAN, scenario.Routed} }

// Supports what the kernel's site side can do, from end to end: the sink cannot read ESP.
func (XFRM) Supports(s method.Scenario) error {
	if s.Direction != method.Through {
		return fmt.Errorf("%w: its packets on the WAN cannot be counted", method.ErrUnavailable)
	}
	return kernelOnly(s)
}

// Build sets up states and policies of both gateways.
func (XFRM) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	// AES-256 and a salt of four bytes (RFC 4106) for each direction, by the sender.
	var keys [2]string
	for i := range keys {
		var key [36]byte
		rand.Read(key[:]) // never fails (crypto/rand since Go 1.24)
		keys[i] = "0x" + hex.EncodeToString(key[:])
	}
	for i := range lab.Ends {
		if err := espStates(ctx, lab, i, keys); err != nil {
			return nil, err
		}
		if err := scenario.Batch(ctx, lab.Ends[i].Gateway, espPolicies(lab, i)); err != nil {
			return nil, err
		}
	}
	g := &kernelGateways{lab: lab, wan: func(ctx context.Context, i int) error {
		return kernelRoutes(ctx, lab, i, "via "+scenario.WAN(lab.Ends[1-i].Number).String())
	}}
	return g, g.build(ctx)
}

// espStates adds both security associations to a gateway.
func espStates(ctx context.Context, lab *scenario.Lab, i int, keys [2]string) error {
	for sender := range keys {
		from, to := scenario.WAN(lab.Ends[sender].Number), scenario.WAN(lab.Ends[1-sender].Number)
		err := command(ctx, lab.Ends[i].Gateway, "ip", "xfrm", "state", "add", "src", from.String(), "dst", to.String(),
			"proto", "esp", "spi", fmt.Sprintf("0x%x", 0x1000+sender), "reqid", "1", "mode", "tunnel", "replay-window", "128",
			"aead", "rfc4106(gcm(aes))", keys[sender], "128")
		if err != nil {
			return fmt.Errorf("%w: the kernel takes no ESP state: %w", method.ErrUnavailable, err)
		}
	}
	return nil
}

// espPolicies says what is to be encrypted on the way out, and must have been on the way in, as ip(8) has it.
func espPolicies(lab *scenario.Lab, i int) []byte {
	var text bytes.Buffer
	here, there := scenario.WAN(lab.Ends[i].Number), scenario.WAN(lab.Ends[1-i].Number)
	policy := func(dir string, src, dst netip.Prefix, from, to netip.Addr) {
		fmt.Fprintf(&text, "xfrm policy add src %s dst %s dir %s tmpl src %s dst %s proto esp reqid 1 mode tunnel\n", src, dst, dir, from, to)
	}
	for _, local := range lab.Prefixes(i) {
		for _, remote := range lab.Prefixes(1 - i) {
			policy("out", local, remote, here, there)
			policy("in", remote, local, there, here)
			policy("fwd", remote, local, there, here)
		}
	}
	return text.Bytes()
}

// command runs a program on a host; what it says is in the error.
func command(ctx context.Context, h *netnstest.Host, name string, args ...string) error {
	if out, err := h.Command(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
