package config

import (
	"crypto/ecdh"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// checker holds what the checks of one configuration share: who has claimed
// what, by the path of the claim.
type checker struct {
	*Config
	*report

	ports   map[string]string      // interface name -> path
	vpcs    map[string]int         // VPC name -> index
	tunnels map[netip.Addr]string  // tunnel address -> path
	udp     map[uint16]udpUse      // UDP port -> who receives on it
	claims  []map[netip.Prefix]use // by index of VPC
	directs map[netip.Addr]string  // address of a peer with encryption none -> path
}

// use is a prefix in a VPC: who has it.
type use struct {
	path string
	peer int // index of the peer; -1: this site
}

// udpUse is what a UDP port is for.
type udpUse struct {
	what, path string
}

func newChecker(c *Config, r *report) *checker {
	k := &checker{Config: c, report: r,
		ports: map[string]string{}, vpcs: map[string]int{},
		tunnels: map[netip.Addr]string{}, udp: map[uint16]udpUse{},
		claims: make([]map[netip.Prefix]use, len(c.VPCs)), directs: map[netip.Addr]string{},
	}
	for i := range k.claims {
		k.claims[i] = map[netip.Prefix]use{}
	}
	return k
}

// run checks in the order of the file, so that of two that clash the later one
// is reported, and names the earlier.
func (c *checker) run() {
	c.name("site", c.Site)
	c.name("gateway", c.Gateway)
	c.checkPorts()
	c.checkWireGuard()
	c.checkDirectPort()
	c.checkVPCs()
	c.checkPeers()
	c.checkTranslations()
	c.checkBGP()
	c.checkEVPN()
	c.checkDrain()
	c.checkCluster()
	c.absolutePath("api.socket", c.API.Socket)
	if len(c.API.Socket) > maxSocketPath {
		c.add("api.socket", "has %d bytes: the kernel takes at most %d", len(c.API.Socket), maxSocketPath)
	}
	c.checkAFXDP()
}

// maxSocketPath is sizeof(sun_path) of unix(7) less the final NUL.
const maxSocketPath = 107

// name checks a name of ours: a DNS label (RFC 1123), because Kubernetes and
// host names take nothing else.
func (c *checker) name(path, s string) bool {
	good := len(s) <= 63 && s != "" && s[0] != '-' && s[len(s)-1] != '-'
	for _, b := range []byte(s) {
		good = good && (b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '-')
	}
	if !good {
		c.add(path, "%q is not a name: use at most 63 lower-case letters, digits and dashes, no dash at either end", s)
	}
	return good
}

func (c *checker) absolutePath(path, file string) {
	if !filepath.IsAbs(file) {
		c.add(path, "must be an absolute path: %q depends on where sluice is started", file)
	}
}

func (c *checker) checkPorts() {
	for i, p := range c.Ports {
		path := element("ports", i) + ".name"
		if badInterfaceName(p.Name) {
			c.add(path, "%q is not an interface name: at most 15 bytes without slash, colon or space", p.Name)
			continue
		}
		if p.Name == "" {
			continue // reported as required
		}
		if first, ok := c.ports[p.Name]; ok {
			c.add(path, "port %s is already %s: remove one", p.Name, c.ref(first))
			continue
		}
		c.ports[p.Name] = path
		c.checkLimit(element("ports", i)+".toPeers", &p.ToPeers)
		if p.ZeroCopy == ZeroCopyOn && p.Mode == ModeGeneric {
			c.add(element("ports", i)+".zeroCopy", "zero copy needs the driver's XDP: with mode generic set zeroCopy to off or auto")
		}
	}
}

// badInterfaceName is what dev_valid_name of the kernel (net/core/dev.c) refuses, and more than IFNAMSIZ holds.
func badInterfaceName(name string) bool {
	return len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\r\v\f")
}

func (c *checker) checkWireGuard() {
	w := c.WireGuard
	c.absolutePath("wireguard.keyFile", w.KeyFile)
	c.udp[w.ListenPort] = udpUse{"WireGuard", "wireguard.listenPort"}
	c.checkTunnelAddresses("wireguard.tunnelAddresses", w.TunnelAddresses)
	c.checkTUN()
}

// checkTunnelAddresses checks the tunnel addresses of this gateway or of a peer.
func (c *checker) checkTunnelAddresses(path string, addrs []netip.Addr) {
	for i, a := range addrs {
		p := element(path, i)
		if !c.unicast(p, a) {
			continue
		}
		if first, ok := c.tunnels[a]; ok {
			c.add(p, "tunnel address %s is already %s: each gateway needs its own", a, c.ref(first))
			continue
		}
		c.tunnels[a] = p
		if i == 1 && len(addrs) == 2 && addrs[0].IsValid() && addrs[0].Is4() == a.Is4() {
			c.add(p, "at most one %s tunnel address: remove %s or %s", family(a), addrs[0], a)
		}
	}
}

// unicast checks that an address can be one machine's, reachable from another.
func (c *checker) unicast(path string, a netip.Addr) bool {
	why := ""
	switch {
	case !a.IsValid():
		c.add(path, "is not an address") // from Go; a file's is reported already
		return false
	case a.Is4In6() || a.Zone() != "":
		why = "not a plain IPv4 or IPv6 address"
	case a.IsUnspecified():
		why = "the unspecified address"
	case a.IsMulticast():
		why = "a multicast address"
	case a.IsLoopback():
		why = "a loopback address"
	case a.Is6() && a.IsLinkLocalUnicast():
		why = "a link-local address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		why = "the broadcast address"
	default:
		return true
	}
	c.add(path, "%s is %s: a unicast address is needed", a, why)
	return false
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// publicKey checks that a key can be used: X25519 with a point of small order
// gives no secret (RFC 7748 section 6.1).
func (c *checker) publicKey(path string, k PublicKey) bool {
	pub, err := ecdh.X25519().NewPublicKey(k[:])
	if err == nil {
		var probe *ecdh.PrivateKey
		if probe, err = ecdh.X25519().NewPrivateKey([]byte("any scalar will do for this test")); err == nil {
			_, err = probe.ECDH(pub)
		}
	}
	if err != nil {
		c.add(path, "is not the public key of any private key")
		return false
	}
	return true
}

func (c *checker) checkAFXDP() {
	a := c.AFXDP
	if a.RingSize&(a.RingSize-1) != 0 {
		low := 1
		for low*2 < a.RingSize {
			low *= 2
		}
		c.add("afxdp.ringSize", "must be a power of two, such as %d or %d, not %d", low, low*2, a.RingSize)
	}
	if a.Frames != 0 && a.Frames < 2*a.RingSize {
		c.add("afxdp.frames", "must be 0 or at least %d (twice afxdp.ringSize), not %d", 2*a.RingSize, a.Frames)
	}
	if a.BusyPoll < 0 || a.BusyPoll > maxBusyPoll || a.BusyPoll%time.Microsecond != 0 {
		c.add("afxdp.busyPoll", "must be 0s to %s in whole microseconds, not %s", maxBusyPoll, a.BusyPoll)
	}
}

// maxBusyPoll is our choice: longer polls hold a core without serving more.
const maxBusyPoll = 10 * time.Millisecond
