package gateway

import (
	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/xdp"
)

// programOptions are what of the configuration is fixed when the XDP program is loaded; see needRestart.
func programOptions(cfg *config.Config, jumbo bool) xdp.Options {
	rate := cfg.WireGuard.HandshakeRate
	o := xdp.Options{MultiBuffer: jumbo}
	if cfg.HasDirectPeers() {
		o.PinPath = cfg.Direct.PinDir
	}
	o.HandshakeRate, o.HandshakeBurst = handshakeLimit(rate.Source)
	o.StrangersRate, o.StrangersBurst = handshakeLimit(rate.Strangers)
	return o
}

// handshakeLimit turns the configuration's rate into the program's: what comes within two seconds may come at once.
func handshakeLimit(rate int) (perSecond, burst int) {
	if rate == 0 {
		return -1, 0 // no limit
	}
	return rate, 2 * rate
}
