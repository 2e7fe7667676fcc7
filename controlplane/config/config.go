// Package config is Sluice's configuration file: its keys, their defaults and
// what they must satisfy.
//
// The Go structs of this package are the source of truth. Their doc comments
// are the descriptions in the JSON schema (docs/config.schema.json) and in the
// reference (docs/config.md), and their jsonschema tags are both in the schema
// and enforced when a file is parsed.
//
// Parse is strict: an unknown key is an error that names the nearest known key,
// and every problem of a file is reported at once, with line and column. The
// package does no input or output of its own: it opens no key file, resolves no
// host name and asks no kernel whether an interface exists. Those answers belong
// to internal/gateway.
//
// A *Config belongs to its caller. Nothing here keeps or changes one after it is
// returned, so it may be read from any goroutine.
//
//	cfg, err := config.Parse(data, "/etc/sluice/sluice.yaml")
//	var problems *config.Error
//	if errors.As(err, &problems) {
//		for _, p := range problems.Problems { ... }
//	}
package config

import (
	"net/netip"
	"time"
)

// Config is one gateway's configuration file.
type Config struct {
	// Name of the site that this gateway belongs to. Lower-case letters, digits
	// and dashes, as in DNS.
	Site string `yaml:"site" jsonschema:"required,example=oslo"`

	// Name of this gateway, unique within the site. Lower-case letters, digits and
	// dashes, as in DNS.
	Gateway string `yaml:"gateway" jsonschema:"required,example=oslo-1"`

	// How many workers run. Worker i owns receive and transmit queue i of every
	// port, so every port needs at least this many queues.
	Workers int `yaml:"workers" jsonschema:"minimum=1,maximum=64,default=1"`

	// Interfaces that carry Sluice's XDP program. Traffic that Sluice does not
	// handle passes to the kernel untouched.
	Ports []Port `yaml:"ports" jsonschema:"required,minItems=1"`

	// The WireGuard identity of this gateway.
	WireGuard WireGuard `yaml:"wireguard" jsonschema:"required"`

	// Routing domains that this gateway serves. A VPC is isolated from every other.
	VPCs []VPC `yaml:"vpcs,omitempty"`

	// Other gateways, or any WireGuard host, that this gateway talks to.
	Peers []Peer `yaml:"peers,omitempty"`

	// How peers with `encryption: none` are spoken to.
	Direct Direct `yaml:"direct"`

	// Routes that are exchanged with the site's routers. Without neighbours nothing is.
	BGP BGP `yaml:"bgp"`

	// The gateways of this site, when there are several: who is active for which VPC.
	Cluster Cluster `yaml:"cluster"`

	// How the gateway goes out of use without losing a packet.
	Drain Drain `yaml:"drain"`

	// The socket that the sluice command and other local clients talk to.
	API API `yaml:"api"`

	// Metrics for Prometheus.
	Metrics Metrics `yaml:"metrics"`

	// AF_XDP memory and rings. The defaults suit most machines.
	AFXDP AFXDP `yaml:"afxdp"`
}

// PortMode says where the XDP program runs.
type PortMode string

// Values of ports[].mode.
const (
	ModeAuto    PortMode = "auto"
	ModeNative  PortMode = "native"
	ModeGeneric PortMode = "generic"
)

// ZeroCopy says whether packets are received and sent without a copy.
type ZeroCopy string

// Values of ports[].zeroCopy.
const (
	ZeroCopyAuto ZeroCopy = "auto"
	ZeroCopyOn   ZeroCopy = "on"
	ZeroCopyOff  ZeroCopy = "off"
)

// Port is an interface with Sluice's XDP program.
type Port struct {
	// Interface name, as `ip link` shows it.
	Name string `yaml:"name" jsonschema:"required,example=eth1"`

	// Where the XDP program runs: `native` in the driver, `generic` in the kernel's
	// stack (any driver, slower), `auto` native with generic as the fallback.
	// `sluice status` shows what the port got.
	Mode PortMode `yaml:"mode" jsonschema:"enum=auto,enum=native,enum=generic,default=auto"`

	// Whether the driver shares packet memory with Sluice: `on` (refuse to start
	// otherwise), `off` (copy), `auto` where the driver can.
	ZeroCopy ZeroCopy `yaml:"zeroCopy" jsonschema:"enum=auto,enum=on,enum=off,default=auto"`

	// How much may leave through this port to peers: the rate of the WAN, when that
	// is what is scarce. Counts outer IP packets, but for WireGuard's padding.
	ToPeers Limit `yaml:"toPeers,omitempty"`
}

// WireGuard is this gateway's identity.
type WireGuard struct {
	// File with the private key, in the form of `wg genkey`. Absolute path; only
	// its owner may read it (mode 0600). `sluice key generate` makes one.
	KeyFile string `yaml:"keyFile" jsonschema:"required,example=/etc/sluice/wg.key"`

	// UDP port that peers send to, on every address of every port.
	ListenPort uint16 `yaml:"listenPort" jsonschema:"minimum=1,maximum=65535,default=51820"`

	// Our addresses inside the tunnels: at most one IPv4 and one IPv6. Traffic of
	// every VPC but the default one travels between these, as Geneve, so they are
	// required as soon as a peer carries such a VPC.
	TunnelAddresses []netip.Addr `yaml:"tunnelAddresses,omitempty" jsonschema:"maxItems=2"`

	// A TUN device by which this gateway's own kernel has the tunnel addresses.
	TUN TUN `yaml:"tun"`

	// How many handshake messages a second the XDP program lets through from one
	// source address (IPv6: from one /64), and from all addresses together that no
	// peer is known to have, on each port. More is dropped before it costs anything.
	// Twice as many may come at once. 0 sets no limit.
	HandshakeRate HandshakeRate `yaml:"handshakeRate"`
}

// HandshakeRate bounds what a flood of handshakes can cost.
type HandshakeRate struct {
	// Messages per second from one source address.
	Source int `yaml:"source" jsonschema:"minimum=0,maximum=1000000,default=200"`

	// Messages per second from all addresses that are no peer's, on each port.
	// Peers that call from addresses we do not know begin at this rate.
	Strangers int `yaml:"strangers" jsonschema:"minimum=0,maximum=1000000,default=2000"`
}

// VPC is a routing domain.
type VPC struct {
	// Name of the VPC. The name `default` is kept for the default VPC.
	Name string `yaml:"name" jsonschema:"required,example=red"`

	// The VPC's identifier at this site: the VNI of its overlay packets. The
	// default VPC has VNI 0; it alone is spoken by any WireGuard host. Required
	// but for the default VPC.
	VNI uint32 `yaml:"vni" jsonschema:"minimum=0,maximum=16777215"`

	// Addresses that Sluice answers ARP and neighbour discovery for inside this
	// VPC's overlays, so that pods can use them as their gateway.
	GatewayAddresses []netip.Addr `yaml:"gatewayAddresses,omitempty"`

	// Multicast groups that are carried between sites: every peer of this VPC that
	// lists them too gets what is sent to them, and there every node (`hosts`,
	// `vteps`) and routed port does. No membership is tracked. A routed port
	// must receive the groups (ip link set DEV allmulticast on). Groups of the link
	// (224.0.0.0/24, ff02::/16) cannot be carried. By default none: multicast is dropped and counted.
	MulticastGroups []netip.Prefix `yaml:"multicastGroups,omitempty" jsonschema:"example=239.1.0.0/16"`

	// MAC address that goes with the gateway addresses, and the source of the
	// frames that Sluice delivers into overlays. By default 02:51:ce followed by
	// the VNI, the same at every gateway of the site.
	GatewayMAC MAC `yaml:"gatewayMAC"`

	// Most hosts that are known in this VPC at a time, of those that overlays with
	// `prefixes` find out.
	MaxHosts int `yaml:"maxHosts" jsonschema:"minimum=1,maximum=1048576,default=16384"`

	// A host that was found out and has not been seen for this long is asked, and
	// forgotten when it does not answer. 1s to 24h.
	HostTimeout time.Duration `yaml:"hostTimeout" jsonschema:"default=5m"`

	// Whether the segment size (MSS) that TCP hosts announce in SYN and SYN-ACK is
	// lowered to what fits the path, in both directions. It is never raised.
	ClampMSS bool `yaml:"clampMSS" jsonschema:"default=true"`

	// The most that the announced segment size may be, whatever the path. By
	// default only the path decides.
	MaxMSS uint16 `yaml:"maxMSS,omitempty" jsonschema:"minimum=88,maximum=65535,example=1340"`

	// Where this VPC's traffic at this site enters and leaves.
	Attachments []Attachment `yaml:"attachments,omitempty"`

	// Which packets of this site are taken for genuine: `loose` those whose source is
	// in a local prefix of the VPC, `strict` those that also came in through the port
	// that this prefix is behind, `off` any.
	SourceCheck SourceCheck `yaml:"sourceCheck" jsonschema:"enum=loose,enum=strict,enum=off,default=loose"`

	// What may cross the gateway.
	ACL ACL `yaml:"acl"`

	// How much traffic the VPC may have across this gateway. Counts inner IP packets.
	Limits Limits `yaml:"limits,omitempty"`

	// Prefixes of this site that the other sites know by other addresses, for sites
	// whose addresses collide. The translation is 1:1 and keeps no state: the host
	// part of an address stays. Everything else at this site (`attachments`,
	// `gatewayAddresses`) speaks of the site's own addresses; the peers' files list
	// what is given under `as`.
	Translate []Translation `yaml:"translate,omitempty" jsonschema:"maxItems=64"`

	// How the VPC is called in what gateways announce to each other.
	EVPN VPCEVPN `yaml:"evpn,omitempty"`
}

// Translation is a prefix that other sites know by another.
type Translation struct {
	// A prefix of this site, as its hosts have it. It cannot be reached from other
	// sites by these addresses.
	Prefix netip.Prefix `yaml:"prefix" jsonschema:"required,example=10.1.0.0/16"`

	// The prefix of the same length by which the other sites know it. Nothing of
	// the VPC overlaps it.
	As netip.Prefix `yaml:"as" jsonschema:"required,example=10.101.0.0/16"`
}

// AttachmentType is how traffic reaches a port.
type AttachmentType string

// Values of vpcs[].attachments[].type.
const (
	Geneve AttachmentType = "geneve"
	VXLAN  AttachmentType = "vxlan"
	Routed AttachmentType = "routed"
)

// Attachment is how traffic of a VPC at this site reaches a port.
type Attachment struct {
	// How packets arrive: `geneve` or `vxlan` from the site's nodes, or `routed`,
	// plain IP from hosts and routers that use the port's address as next hop.
	Type AttachmentType `yaml:"type" jsonschema:"required,enum=geneve,enum=vxlan,enum=routed"`

	// Name of the port, one of `ports`. A port has at most one `routed` attachment.
	// Overlay packets are taken from this port only. Unless there are trustedVTEPs
	// their outer source is not checked: let no stranger send to it, and keep the
	// WAN on another port.
	Port string `yaml:"port" jsonschema:"required"`

	// UDP port of the overlay: by default 4789 for `vxlan`, 6081 for `geneve`. Not
	// for `routed`.
	UDPPort uint16 `yaml:"udpPort,omitempty" jsonschema:"minimum=1,maximum=65535"`

	// Local prefixes behind this attachment. `routed`: delivered as the kernel's
	// routes and neighbours on that port say. Overlays: which node holds an address
	// is found out, by what the nodes send and by asking them (ARP, neighbour
	// discovery) from the gateway address, which the VPC needs for each family.
	Prefixes []netip.Prefix `yaml:"prefixes,omitempty"`

	// Addresses of the overlay's nodes: who is asked for hosts, and the only ones
	// that are believed to have any. Without it every node is that sends from an
	// address of `prefixes`, and a host that never spoke is found only behind such a
	// node. Not for `routed`.
	VTEPs []netip.Addr `yaml:"vteps,omitempty"`

	// Prefixes that the site's fabric may announce by EVPN beside the addresses of hosts
	// in `prefixes`: these and what is inside them (a neighbour with `evpn` on this port).
	// Not for `routed`.
	AllowedPrefixes []netip.Prefix `yaml:"allowedPrefixes,omitempty"`

	// Outer sources that an overlay takes packets from, as prefixes. What is in
	// `vteps`, `hosts` and `subnets` is trusted with them. By default any. Not for
	// `routed`.
	TrustedVTEPs []netip.Prefix `yaml:"trustedVTEPs,omitempty"`

	// What tells where a host of an overlay's `prefixes` is: `traffic`, whatever it
	// sends, or `asked`, nothing but its answers to ARP and neighbour discovery. By
	// default `traffic`. A host that is known stays where it is for as long as it
	// answers there, whoever else claims its address.
	Learn Learn `yaml:"learn,omitempty" jsonschema:"enum=traffic,enum=asked"`

	// What the nodes of a `geneve` attachment do with Geneve options: `mizar` for
	// Mizar's, which read four options from every packet at fixed places. The gateway
	// is then the bouncer of the other sites' prefixes, and gives every packet that it
	// delivers these options, with itself as the one to answer to. They take 64
	// bytes of the overlay's MTU, and between the gateways too.
	Options Options `yaml:"options,omitempty" jsonschema:"enum=mizar"`

	// With `options: mizar`, the pod label of packets that come from a site without
	// Mizar, for its network policies.
	PodLabel uint32 `yaml:"podLabel,omitempty" jsonschema:"minimum=0,maximum=4294967295"`

	// With `options: mizar`, the namespace label of such packets.
	NamespaceLabel uint32 `yaml:"namespaceLabel,omitempty" jsonschema:"minimum=0,maximum=4294967295"`

	// Who is where in an overlay: local prefixes and the VTEP behind which they
	// are. They win over what is found out. Not for `routed`.
	Hosts []Host `yaml:"hosts,omitempty"`

	// With `options: mizar`, the site's subnets and who delivers into them.
	Subnets []Subnet `yaml:"subnets,omitempty"`
}

// Learn says what tells where hosts of an overlay are.
type Learn string

// Values of vpcs[].attachments[].learn.
const (
	LearnTraffic Learn = "traffic"
	LearnAsked   Learn = "asked"
)

// Options says which Geneve options the nodes of an overlay use.
type Options string

// OptionsMizar is a value of vpcs[].attachments[].options.
const OptionsMizar Options = "mizar"

// Host places prefixes behind an overlay endpoint.
type Host struct {
	// Addresses of the pod or host; /32 and /128 for one address, shorter ones for
	// a node that holds a whole prefix.
	Prefixes []netip.Prefix `yaml:"prefixes" jsonschema:"required,minItems=1"`

	// Outer address of the node that the overlay packets go to.
	VTEP netip.Addr `yaml:"vtep" jsonschema:"required"`

	// Destination MAC address inside the overlay: the pod's, or the node's bridge.
	MAC MAC `yaml:"mac" jsonschema:"required"`
}

// Subnet places prefixes behind Mizar's bouncers or dividers.
type Subnet struct {
	// Addresses of the subnet, or of several.
	Prefixes []netip.Prefix `yaml:"prefixes" jsonschema:"required,minItems=1"`

	// Outer addresses of the bouncers of the subnet. Each flow goes to one of them.
	Bouncers []netip.Addr `yaml:"bouncers,omitempty" jsonschema:"maxItems=128"`

	// Outer addresses of the dividers of the VPC, in place of bouncers: a divider
	// finds the bouncer. Each flow goes to one of them.
	Dividers []netip.Addr `yaml:"dividers,omitempty" jsonschema:"maxItems=128"`
}

// Direct is how peers with `encryption: none` are spoken to.
type Direct struct {
	// UDP port that such peers send to, on every address of every port. It must not
	// be open to anybody else: an address is all that tells a peer from a stranger.
	Port uint16 `yaml:"port" jsonschema:"minimum=1,maximum=65535,default=51821"`

	// Directory, on a BPF file system, where the XDP program is pinned while there
	// is such a peer, so that it goes on forwarding when the process ends or dies.
	// Absolute path, a directory for each gateway. By default /sys/fs/bpf/sluice/
	// followed by the name of the gateway.
	PinDir string `yaml:"pinDir,omitempty" jsonschema:"example=/sys/fs/bpf/sluice/oslo-1"`
}

// Encryption says what protects the traffic with a peer.
type Encryption string

// Values of peers[].encryption.
const (
	EncryptionWireGuard Encryption = "wireguard"
	EncryptionNone      Encryption = "none"
)

// Peer is another gateway, or any WireGuard host.
type Peer struct {
	// Name of the peer, for people.
	Name string `yaml:"name" jsonschema:"required,example=bergen-1"`

	// What protects the traffic with this peer. `none` is for a link that is yours
	// alone: everything, of all its VPCs, travels in the clear, and whoever can send
	// from the peer's address can send into them. Such a peer needs `endpoint`, as an IP
	// address, and has no keys, keepalive, tunnel addresses and flow ports. Both
	// gateways must say it. See docs/direct.md.
	Encryption Encryption `yaml:"encryption" jsonschema:"enum=wireguard,enum=none,default=wireguard"`

	// The peer's WireGuard public key, base64 as `wg pubkey` and `sluice key
	// public` print it. Required unless `encryption` is none.
	PublicKey PublicKey `yaml:"publicKey,omitempty"`

	// File with a pre-shared key for this peer, in the form of `wg genpsk`.
	// Absolute path; only its owner may read it (mode 0600).
	PresharedKeyFile string `yaml:"presharedKeyFile,omitempty"`

	// Outer address and UDP port of the peer: an IP address or a DNS name. Leave it
	// out for a peer that calls first; its address is then learned and followed.
	// With `encryption: none` the port is the peer's `direct.port`.
	Endpoint Endpoint `yaml:"endpoint,omitempty" jsonschema:"example=198.51.100.2:51820"`

	// Several ways to a peer that is a Sluice gateway too, in place of `endpoint`: two
	// uplinks, IPv4 and IPv6, several addresses. Each is probed, traffic takes the
	// best one that works, and one session serves all. Needs tunnel addresses. See
	// docs/paths.md.
	Paths []Path `yaml:"paths,omitempty" jsonschema:"maxItems=15"`

	// Peers that this one may exchange sealed messages with through us, because they
	// cannot reach each other: each has a path `via` this gateway. It is enough to list
	// one at the other. We cannot read what they say. By default nothing is passed on.
	RelayTo []string `yaml:"relayTo,omitempty" jsonschema:"example=bergen-1"`

	// How much this peer may send to others through us (`relayTo`, here or there), as
	// packets inside its tunnel. Without `rate` and `packetRate` it is 100M.
	RelayLimit Limit `yaml:"relayLimit,omitempty"`

	// How long a path must have been better than the one in use before it takes its
	// place, while that works. One that fails is left at once. 0s to 1h.
	PathHold time.Duration `yaml:"pathHold" jsonschema:"default=10s"`

	// How often to send something when nothing else was sent, to keep a NAT or
	// firewall on the way open. Whole seconds, up to 65535s; 0s sends nothing.
	PersistentKeepalive time.Duration `yaml:"persistentKeepalive" jsonschema:"default=0s,example=25s"`

	// The first of the UDP source ports that this gateway and the peer spread
	// their data over by flow, so that NIC queues and network paths share the work; with
	// `flowPortCount`. Only between Sluice gateways that both say so, and not
	// through a NAT. Any other WireGuard takes a new port for a peer that moved.
	FlowPort uint16 `yaml:"flowPort,omitempty" jsonschema:"minimum=1,maximum=65535,example=49152"`

	// How many ports there are from `flowPort` on: a power of two. 0: data is sent
	// from `wireguard.listenPort` alone.
	FlowPortCount int `yaml:"flowPortCount,omitempty" jsonschema:"minimum=0,maximum=16384,example=64"`

	// The peer's addresses inside the tunnels: at most one IPv4 and one IPv6.
	// Required, of a family that we have a tunnel address of, when the peer carries
	// a VPC other than the default one.
	TunnelAddresses []netip.Addr `yaml:"tunnelAddresses,omitempty" jsonschema:"maxItems=2"`

	// Name of the cluster that the peer is a member of, the same for all gateways of a
	// site. A VPC that its gateways do not share but hand over is then routed to the one
	// that has the latest claim to it, and taken from no other; and this gateway votes
	// if they ask it as a witness. Needs tunnel addresses.
	Cluster string `yaml:"cluster,omitempty" jsonschema:"example=bergen"`

	// How it is found out whether the peer is alive. Both need tunnel addresses.
	Probe Probe `yaml:"probe"`

	// Whether the peer announces its prefixes by BGP.
	BGP PeerBGP `yaml:"bgp,omitempty"`

	// MTU of the tunnel, as of a WireGuard interface: the longest inner IP packet of
	// the default VPC. Others have less by what Geneve takes: 36 bytes, between
	// IPv6 tunnel addresses 56. By default the path is probed inside the tunnel, and
	// this switches that off. Never more than the port has room for.
	MTU int `yaml:"mtu,omitempty" jsonschema:"minimum=516,maximum=9156,example=1420"`

	// As `clampMSS` of a VPC, for the traffic of this peer: off if it is off at either.
	ClampMSS bool `yaml:"clampMSS" jsonschema:"default=true"`

	// As `maxMSS` of a VPC, for the traffic of this peer: the smaller one holds.
	MaxMSS uint16 `yaml:"maxMSS,omitempty" jsonschema:"minimum=88,maximum=65535,example=1340"`

	// How much traffic there may be with this peer, over all VPCs. Counts inner IP
	// packets.
	Limits Limits `yaml:"limits,omitempty"`

	// The VPCs that this peer carries, with its prefixes in each. Required, unless it
	// is a member of this site's `cluster`.
	VPCs []PeerVPC `yaml:"vpcs,omitempty"`
}

// PeerVPC is a VPC as one peer carries it.
type PeerVPC struct {
	// Name of the VPC, one of `vpcs`.
	Name string `yaml:"name" jsonschema:"required"`

	// The VPC's VNI at the peer's site. By default the same as ours.
	VNI uint32 `yaml:"vni" jsonschema:"minimum=0,maximum=16777215"`

	// Remote prefixes: what is routed to this peer, and the only source addresses
	// that are accepted from it in this VPC. The longest prefix wins; the same
	// prefix at several peers spreads flows over them. Required unless there are
	// `allowedPrefixes`.
	Prefixes []netip.Prefix `yaml:"prefixes,omitempty"`

	// What the peer may announce by BGP (`bgp` of this peer, or of a route reflector):
	// these prefixes and any inside them or inside `prefixes`. They are no routes
	// themselves, but their addresses are taken for remote ones: what this site sends
	// there and nobody has announced is answered with an error and leaves nowhere.
	AllowedPrefixes []netip.Prefix `yaml:"allowedPrefixes,omitempty" jsonschema:"example=10.2.0.0/16"`
}

// API is the local control socket.
type API struct {
	// Path of the unix socket. Absolute; at most 107 bytes. The socket gets mode
	// 0660, so membership of its group is what gives access.
	Socket string `yaml:"socket" jsonschema:"default=/run/sluice/sluice.sock"`
}

// Metrics is the Prometheus endpoint.
type Metrics struct {
	// Where to answer scrapes of /metrics over plain HTTP; off by default. Whoever
	// can reach it can read every counter and the names of VPCs and peers, never a
	// key: prefer a loopback address and let an agent collect.
	Listen Endpoint `yaml:"listen,omitempty" jsonschema:"example=127.0.0.1:9479"`
}

// AFXDP sizes the memory that Sluice shares with the kernel.
type AFXDP struct {
	// Entries of each receive, transmit, fill and completion ring: a power of two.
	RingSize int `yaml:"ringSize" jsonschema:"minimum=64,maximum=32768,default=2048"`

	// Packet buffers of each worker, shared by all its ports. 0 computes enough
	// from the rings and the number of ports.
	Frames int `yaml:"frames" jsonschema:"minimum=0,maximum=4194304,default=0"`

	// Take packet memory from reserved huge pages, and fall back to normal pages
	// when there are none.
	HugePages bool `yaml:"hugePages" jsonschema:"default=false"`

	// How long a worker polls the driver for packets on each turn, instead of
	// waiting for an interrupt. Microseconds up to 10ms; 0s turns busy polling off.
	BusyPoll time.Duration `yaml:"busyPoll" jsonschema:"default=0s,example=50us"`

	// Most packets that one busy poll takes from the driver.
	BusyPollBudget int `yaml:"busyPollBudget" jsonschema:"minimum=1,maximum=1024,default=64"`
}

// DefaultSocket is where the API listens, and where the sluice command looks,
// unless told otherwise.
const DefaultSocket = "/run/sluice/sluice.sock"

// DefaultVPC is the name of the VPC with VNI 0.
const DefaultVPC = "default"
