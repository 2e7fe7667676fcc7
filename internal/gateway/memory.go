package gateway

import (
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/internal/neigh"
	"github.com/sluicegw/sluice/relay"
)

// memory says how packets lie in memory, for as long as the gateway runs: it follows from the MTUs that the configured
// ports have at the start.
type memory struct {
	frameSize int
	jumbo     bool // packets may take several frames: the program and the sockets are made for it (Linux 6.6)
}

// memoryFor takes the smaller of the two frame sizes that the kernel knows (half a page or a page) into which the packets
// of the configured ports fit. Where they fit into neither they come in pieces.
func memoryFor(cfg *config.Config, links *neigh.Links) memory {
	m := memory{frameSize: 2048}
	for _, p := range cfg.Ports {
		link := links.LinkByName(p.Name)
		if link == nil || link.MTU <= frameMTU(2048) {
			continue
		}
		m.frameSize = 4096
		if link.MTU > frameMTU(4096) {
			m.jumbo = true
		}
	}
	return m
}

// frameMTU is the longest IP packet that fits into one frame of this size: the kernel keeps 256 bytes in front
// (XDP_PACKET_HEADROOM), Ethernet with two VLAN tags takes 22, and behind the packet there must be room for WireGuard's
// padding and tag (31).
func frameMTU(size int) int { return size - 256 - 22 - 31 }

// maxMTU is the longest IP packet that a port may have.
func (m memory) maxMTU() int {
	if m.jumbo {
		return relay.MaxMTU
	}
	return frameMTU(m.frameSize)
}

// inPieces says that a port's packets may take several frames.
func (m memory) inPieces(mtu int) bool { return m.jumbo && mtu > frameMTU(m.frameSize) }
