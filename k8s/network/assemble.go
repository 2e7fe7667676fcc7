package network

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluicegw/sluice/controlplane/config"
	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// natKeepalive keeps the way open that a gateway which can only dial is called back
// by: WireGuard's usual figure, below the 30 s after which many NATs forget UDP.
const natKeepalive = 25 * time.Second

// draft is the part of the configuration that objects make, and which object is to
// blame for each path of it.
type draft struct {
	config.Config
	owners map[string]string // path: kind and name
}

// assemble makes the configuration and has it checked. again says that an object was
// refused, and all is to be done once more without it.
func (c *compiler) assemble() (again bool, err error) {
	file, err := c.machine.File.Marshal()
	if err != nil {
		return false, err
	}
	whole, err := config.Parse(file, "") // a copy
	if err != nil {
		return false, fmt.Errorf("the gateway's own file: %w", err)
	}
	if own := c.result.Gateways[c.machine.Gateway]; own.Active == c.machine.Endpoint && own.Problem == nil {
		whole.WireGuard.TunnelAddresses = append(whole.WireGuard.TunnelAddresses, TunnelAddress(c.machine.PublicKey))
		d := c.draft(whole)
		_ = d.Check() // only for the defaults: what is wrong shows below, with the file's part
		whole.VPCs, whole.Peers = append(whole.VPCs, d.VPCs...), append(whole.Peers, d.Peers...)
		text, err := whole.Marshal()
		if err != nil {
			return false, err
		}
		checked, err := config.Parse(text, "")
		var problems *config.Error
		if errors.As(err, &problems) {
			return true, c.blame(problems, d.owners)
		} else if err != nil {
			return false, err
		}
		whole = checked
	}
	c.result.Config = whole
	return false, nil
}

// blame refuses the objects that problems are about. The error is about one that is
// no object's.
func (c *compiler) blame(problems *config.Error, owners map[string]string) error {
	blamed := false
	for _, p := range problems.Problems {
		for path := p.Path; path != ""; path = path[:max(strings.LastIndexAny(path, ".["), 0)] {
			if owner := owners[path]; owner != "" {
				if c.refused[owner] == nil {
					blamed = true
					field := p.Path[strings.LastIndexByte(p.Path, '.')+1:] // indexes of the file mean nothing to who wrote the object
					c.refused[owner] = &Problem{ReasonInvalid, "the gateway refuses its " + strings.TrimRight(field, "[]0123456789") + ": " + p.Message}
				}
				break
			}
		}
	}
	if !blamed {
		return fmt.Errorf("the gateway's own file, with what is in the API server: %w", problems)
	}
	return nil
}

// draft lists what objects make behind what the file has, by name.
func (c *compiler) draft(file *config.Config) *draft {
	d := &draft{Config: *file, owners: map[string]string{}}
	d.VPCs, d.Peers = nil, nil
	firstVPC, firstPeer := len(file.VPCs), len(file.Peers)
	hasDefault := slices.ContainsFunc(file.VPCs, func(v config.VPC) bool { return v.Name == config.DefaultVPC })
	for _, v := range c.objects.VPCs {
		if r := c.result.VPCs[v.Name]; r.Problem == nil {
			d.VPCs = append(d.VPCs, config.VPC{Name: v.Name, VNI: uint32(r.VNI)})
		}
	}
	slices.SortFunc(d.VPCs, func(a, b config.VPC) int { return cmp.Compare(a.Name, b.Name) })
	for i := range d.VPCs {
		c.attach(d, &d.VPCs[i], fmt.Sprintf("vpcs[%d]", firstVPC+i))
	}
	peers := make([]*v1alpha1.Gateway, 0, len(c.peers))
	for _, g := range c.peers {
		peers = append(peers, g)
	}
	slices.SortFunc(peers, func(a, b *v1alpha1.Gateway) int { return cmp.Compare(a.Name, b.Name) })
	for _, g := range peers {
		c.peer(d, g, fmt.Sprintf("peers[%d]", firstPeer+len(d.Peers)))
	}
	if !hasDefault && slices.ContainsFunc(d.Peers, func(p config.Peer) bool { return p.VPCs[0].Name == config.DefaultVPC }) {
		d.VPCs = append(d.VPCs, config.VPC{Name: config.DefaultVPC})
	}
	return d
}

// attach gives a VPC its local subnets.
func (c *compiler) attach(d *draft, v *config.VPC, path string) {
	d.owners[path] = "VPC " + v.Name
	local := c.subnets(v.Name, c.machine.Cluster)
	if c.machine.Attachment == nil || len(local) == 0 {
		return
	}
	a := *c.machine.Attachment
	for _, s := range local {
		if c.attachNodes(d, v, &a, s, path) {
			continue
		}
		d.owners[fmt.Sprintf("%s.attachments[0].prefixes[%d]", path, len(a.Prefixes))] = "Subnet " + s.name
		a.Prefixes = append(a.Prefixes, s.prefix)
		if s.prefix.Bits() <= s.prefix.Addr().BitLen()-2 && a.Type != config.Routed {
			d.owners[fmt.Sprintf("%s.gatewayAddresses[%d]", path, len(v.GatewayAddresses))] = "Subnet " + s.name
			v.GatewayAddresses = append(v.GatewayAddresses, s.prefix.Addr().Next())
		}
	}
	if len(a.Prefixes) == 0 {
		a.VTEPs, a.Learn = nil, "" // nobody is asked for hosts
	}
	v.Attachments = []config.Attachment{a}
}

// peer adds the gateway of another cluster, if anything is behind it.
func (c *compiler) peer(d *draft, g *v1alpha1.Gateway, path string) {
	e := c.remote[g.Name]
	p := config.Peer{Name: g.Name}
	if err := p.PublicKey.UnmarshalText([]byte(e.PublicKey)); err != nil {
		return // electPeer has seen to it
	}
	p.TunnelAddresses = []netip.Addr{TunnelAddress(p.PublicKey)}
	if dialled(g, e) {
		p.Endpoint = config.Endpoint{Host: e.Address, Port: uint16(cmp.Or(e.Port, 51820))}
	}
	if !dialled(c.own, c.self) || c.self.UnderNAT {
		p.PersistentKeepalive = natKeepalive
	}
	owners := map[string]string{path: "Gateway " + g.Name}
	add := func(vpc string, vni uint32, prefix netip.Prefix, owner string) {
		if n := len(p.VPCs); n == 0 || p.VPCs[n-1].Name != vpc {
			p.VPCs = append(p.VPCs, config.PeerVPC{Name: vpc, VNI: vni})
		}
		n := len(p.VPCs) - 1
		owners[fmt.Sprintf("%s.vpcs[%d].prefixes[%d]", path, n, len(p.VPCs[n].Prefixes))] = owner
		p.VPCs[n].Prefixes = append(p.VPCs[n].Prefixes, prefix)
	}
	for _, text := range slices.Sorted(slices.Values(g.Spec.Prefixes)) {
		if prefix, err := netip.ParsePrefix(text); err == nil { // the schema has seen to it
			add(config.DefaultVPC, 0, prefix, "Gateway "+g.Name)
		}
	}
	for _, v := range d.VPCs {
		if c.vpcs[v.Name].Spec.VNI == nil && c.foreign(g) {
			continue
		}
		for _, s := range c.subnets(v.Name, g.Spec.Cluster) {
			add(v.Name, v.VNI, s.prefix, "Subnet "+s.name)
		}
	}
	if len(p.VPCs) == 0 {
		return
	}
	d.Peers = append(d.Peers, p)
	for key, owner := range owners {
		d.owners[key] = owner
	}
}

// subnets returns those of a VPC that are at home in a cluster, by prefix.
func (c *compiler) subnets(vpc, cluster string) (list []placedSubnet) {
	for _, s := range c.placed[vpc] {
		if s.cluster == cluster {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b placedSubnet) int { return a.prefix.Compare(b.prefix) })
	return list
}
