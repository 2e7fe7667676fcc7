package contestants

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/internal/netnstest"
	"github.com/sluicegw/sluice/internal/testenv"
)

// OVS is Open vSwitch with its userspace datapath: VXLAN at the site, and a tunnel of a
// type on the WAN. It bridges; it neither routes nor encrypts.
type OVS struct {
	Tunnel string // geneve or vxlan
}

// Name of the contestant.
func (o OVS) Name() string { return "ovs-" + o.Tunnel }

// Attachments of the contestant.
func (OVS) Attachments() []string { return []string{scenario.VXLAN} }

// Supports what its two ports can do.
func (OVS) Supports(s method.Scenario) error {
	for _, tool := range netnstest.OVSTools {
		if _, err := testenv.LookTool(tool); err != nil {
			return fmt.Errorf("%w: package openvswitch-switch: %w", method.ErrUnavailable, err)
		}
	}
	if s.Routes > 1 {
		return fmt.Errorf("%w: a bridge has no routes", method.ErrUnavailable)
	}
	if s.Native {
		return errNative
	}
	return kernelOnly(s)
}

// ovsGateway is a database and a switch of one gateway.
type ovsGateway struct {
	lab      *scenario.Lab
	index    int
	dir      string
	database *scenario.Daemon
	vswitch  *scenario.Daemon
}

type ovsGateways struct {
	gateways [2]*ovsGateway
	version  string
}

// Build starts and configures both.
func (o OVS) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	all := &ovsGateways{}
	for i, site := range lab.Ends {
		g := &ovsGateway{lab: lab, index: i, dir: filepath.Join(site.Gateway.Dir(), "ovs")}
		all.gateways[i] = g
		if err := g.start(ctx); err != nil {
			return nil, fmt.Errorf("open vswitch: %w", err)
		}
		if err := g.configure(ctx, o.Tunnel); err != nil {
			return nil, fmt.Errorf("open vswitch: %w", err)
		}
	}
	text, err := all.gateways[0].run(ctx, "ovs-vswitchd", "--version")
	all.version, _, _ = strings.Cut(text, "\n")
	return all, err
}

func (g *ovsGateway) environment() []string {
	return []string{"OVS_RUNDIR=" + g.dir, "OVS_LOGDIR=" + g.dir, "OVS_DBDIR=" + g.dir, "OVS_SYSCONFDIR=" + g.dir}
}

func (g *ovsGateway) socket() string  { return "unix:" + filepath.Join(g.dir, "db.sock") }
func (g *ovsGateway) control() string { return filepath.Join(g.dir, "ovs-vswitchd.ctl") }

// start starts the daemons in the foreground: they are our children.
func (g *ovsGateway) start(ctx context.Context) (err error) {
	if err := os.Mkdir(g.dir, 0o700); err != nil {
		return err
	}
	database := filepath.Join(g.dir, "conf.db")
	if _, err := g.run(ctx, "ovsdb-tool", "create", database); err != nil {
		return err
	}
	quiet := []string{"--no-chdir", "-vconsole:warn", "-vsyslog:off"}
	if g.database, err = g.daemon(ctx, "ovsdb-server", append(quiet, "--unixctl="+filepath.Join(g.dir, "ovsdb.ctl"), database, "--remote=p"+g.socket())...); err != nil {
		return err
	}
	if err := g.database.Wait(ctx, func() error { return g.vsctl(ctx, "--no-wait", "init") }); err != nil {
		return err
	}
	if g.vswitch, err = g.daemon(ctx, "ovs-vswitchd", append(quiet, "--unixctl="+g.control(), g.socket())...); err != nil {
		return err
	}
	return g.vswitch.Wait(ctx, func() error { _, err := g.run(ctx, "ovs-appctl", "-t", g.control(), "version"); return err })
}

func (g *ovsGateway) daemon(ctx context.Context, name string, args ...string) (*scenario.Daemon, error) {
	path, err := testenv.LookTool(name)
	if err != nil {
		return nil, err
	}
	return g.lab.Start(ctx, g.lab.Ends[g.index].Gateway, g.environment(), path, args...)
}

func (g *ovsGateway) run(ctx context.Context, name string, args ...string) (string, error) {
	c := g.lab.Ends[g.index].Gateway.Command(ctx, name, args...)
	c.Env = append(os.Environ(), g.environment()...)
	out, err := c.Output()
	return string(out), err
}

func (g *ovsGateway) vsctl(ctx context.Context, args ...string) error {
	_, err := g.run(ctx, "ovs-vsctl", append([]string{"--db=" + g.socket(), "--timeout=20"}, args...)...)
	return err
}

// configure makes a bridge for each link, which has the gateway's address there, and
// one between the two tunnels.
func (g *ovsGateway) configure(ctx context.Context, tunnel string) error {
	site, other := g.lab.Ends[g.index], g.lab.Ends[1-g.index]
	netdev := func(bridge, mac string) []string {
		return []string{"--", "add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev", "fail-mode=secure", "other-config:hwaddr=" + mac}
	}
	port := func(bridge, name, kind, local, remote string, key int, number string) []string {
		return []string{
			"--", "add-port", bridge, name, "--", "set", "interface", name, "type=" + kind, "options:local_ip=" + local, "options:remote_ip=" + remote,
			fmt.Sprint("options:key=", key), "ofport_request=" + number,
		}
	}
	var args []string
	args = append(args, netdev("br-site", scenario.GatewayMAC(site.Number).String())...)
	args = append(args, netdev("br-wan", scenario.WANMAC(site.Number).String())...)
	args = append(args, netdev("br-int", scenario.OverlayMAC().String())...)
	args = append(args, "--", "set-fail-mode", "br-site", "standalone", "--", "set-fail-mode", "br-wan", "standalone",
		"--", "add-port", "br-site", site.Inside.Name, "--", "add-port", "br-wan", site.WAN.Name)
	args = append(args, port("br-int", "pods", "vxlan", scenario.Underlay(site.Number, true).String(), scenario.Underlay(site.Number, false).String(), scenario.VNI, "1")...)
	args = append(args, port("br-int", "tunnel", tunnel, scenario.WAN(site.Number).String(), scenario.WAN(other.Number).String(), tunnelVNI, "2")...)
	if err := g.vsctl(ctx, args[1:]...); err != nil {
		return err
	}
	// The addresses move from the links to their bridges: Open vSwitch routes its own
	// tunnels by where the kernel has the addresses.
	commands := fmt.Sprintf("addr flush dev %s\naddr flush dev %s\naddr add %s/24 dev br-site\naddr add %s/16 dev br-wan\nlink set br-site up mtu %d\nlink set br-wan up mtu %d\n",
		site.Inside.Name, site.WAN.Name, scenario.Underlay(site.Number, true), scenario.WAN(site.Number), scenario.LinkMTU, scenario.LinkMTU)
	if err := scenario.Batch(ctx, site.Gateway, []byte(commands)); err != nil {
		return err
	}
	for _, n := range [][3]string{
		{"br-site", scenario.Underlay(site.Number, false).String(), scenario.EndMAC(site.Number).String()},
		{"br-wan", scenario.WAN(other.Number).String(), scenario.WANMAC(other.Number).String()},
	} {
		if _, err := g.run(ctx, "ovs-appctl", "-t", g.control(), "tnl/arp/set", n[0], n[1], n[2]); err != nil {
			return err
		}
	}
	flows := fmt.Sprintf("in_port=1,actions=output:2\nin_port=2,actions=mod_dl_src:%s,mod_dl_dst:%s,output:1\n",
		scenario.OverlayMAC(), scenario.PodMAC(site.Number))
	file := filepath.Join(g.dir, "flows")
	if err := os.WriteFile(file, []byte(flows), 0o600); err != nil {
		return err
	}
	_, err := g.run(ctx, "ovs-ofctl", "replace-flows", "unix:"+filepath.Join(g.dir, "br-int.mgmt"), file)
	return err
}

// PIDs are the switches': the databases do nothing under load.
func (o *ovsGateways) PIDs() []int {
	return []int{o.gateways[0].vswitch.PID(), o.gateways[1].vswitch.PID()}
}

func (o *ovsGateways) Version() string { return o.version }
