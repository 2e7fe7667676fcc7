package netnstest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicegw/sluice/internal/testenv"
)

// OVSTools are the programs that a node with Open vSwitch needs.
var OVSTools = []string{"ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-appctl"}

// ovsStart is how long the daemons may take to answer.
const ovsStart = 20 * time.Second

// openVSwitch is a database server and a switch daemon of one host, that share
// nothing with those of other hosts or of the machine.
type openVSwitch struct {
	host *Host
	dir  string
}

// NewOVSNode makes a node with Open vSwitch: its userspace datapath, which needs
// no kernel module but tun, with a bridge per segment and a Geneve port per
// segment and remote.
func (s *Scope) NewOVSNode(o NodeOptions) *Node {
	n := &Node{Host: s.NewHost(o.Name), attach: make(map[string]func(End, End))}
	o.Switch.Plug(End{Host: n.Host, Name: "eth0", MAC: o.MAC, Offload: o.Offload})
	n.helper()
	s.try(func() error {
		ovs, err := n.startOVS()
		if err != nil {
			return fmt.Errorf("node %s: %w", o.Name, err)
		}
		n.ovs = ovs
		return n.configureOVS(o)
	})
	for _, segment := range o.Segments {
		n.attach[segment.Name] = func(port, pod End) {
			s.Connect(pod, port)
			s.try(func() error { return n.ovs.vsctl("add-port", "br-"+segment.Name, port.Name) })
		}
	}
	return n
}

// configureOVS makes the bridges. Tunnels leave by the bridge that has both the
// VTEP's address and the uplink: without a kernel datapath, Open vSwitch routes
// and resolves for them itself.
func (n *Node) configureOVS(o NodeOptions) error {
	args := []string{"add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev"}
	if o.MAC != nil {
		args = append(args, "other-config:hwaddr="+o.MAC.String())
	}
	args = append(args, "--", "add-port", "br-phy", "eth0")
	for _, segment := range o.Segments {
		bridge := "br-" + segment.Name
		args = append(args, "--", "add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev")
		for i, remote := range o.Remotes {
			port := fmt.Sprintf("gnv%d-%s", i, segment.Name)
			args = append(args, "--", "add-port", bridge, port,
				"--", "set", "interface", port, "type=geneve", "options:remote_ip="+remote.String(), fmt.Sprintf("options:key=%d", segment.VNI),
				// What came by one tunnel does not leave by another: the remotes
				// are a full mesh.
				"--", "set", "port", port, "protected=true")
		}
	}
	if err := n.ovs.vsctl(args...); err != nil {
		return err
	}
	phy := &Link{Host: n.Host, Name: "br-phy"}
	if err := phy.configure(End{Host: n.Host, Name: phy.Name, Offload: true}); err != nil {
		return err
	}
	return phy.addAddr(o.VTEP)
}

// startOVS starts the daemons in the foreground, as our children.
func (h *Host) startOVS() (*openVSwitch, error) {
	for _, tool := range OVSTools {
		if _, err := testenv.LookTool(tool); err != nil {
			return nil, fmt.Errorf("open vswitch: %w", err)
		}
	}
	ovs := &openVSwitch{host: h, dir: filepath.Join(h.Dir(), "ovs")}
	if err := os.Mkdir(ovs.dir, 0o700); err != nil {
		return nil, err
	}
	database, socket := filepath.Join(ovs.dir, "conf.db"), "unix:"+ovs.socket()
	if out, err := ovs.command("ovsdb-tool", "create", database).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("open vswitch: create database: %w: %s", err, out)
	}
	if err := ovs.daemon("ovsdb-server", database, "--remote=p"+socket); err != nil {
		return nil, err
	}
	if err := ovs.vsctl("--no-wait", "init"); err != nil {
		return nil, err
	}
	if err := ovs.daemon("ovs-vswitchd", socket); err != nil {
		return nil, err
	}
	return ovs, nil
}

func (o *openVSwitch) socket() string { return filepath.Join(o.dir, "db.sock") }

// command prepares a program of Open vSwitch with folders of its own.
func (o *openVSwitch) command(name string, args ...string) *Cmd {
	c := o.host.Command(context.Background(), name, args...)
	c.Env = append(os.Environ(), "OVS_RUNDIR="+o.dir, "OVS_LOGDIR="+o.dir, "OVS_DBDIR="+o.dir, "OVS_SYSCONFDIR="+o.dir)
	return c
}

// daemon starts a server, and waits until it answers its control socket.
func (o *openVSwitch) daemon(name string, args ...string) error {
	control := filepath.Join(o.dir, name+".ctl")
	c := o.command(name, append(args, "--unixctl="+control, "--no-chdir", "-vconsole:warn", "-vsyslog:off")...)
	log, err := os.Create(filepath.Join(o.dir, name+".err"))
	if err != nil {
		return err
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		return fmt.Errorf("open vswitch: %w", err)
	}
	for deadline := time.Now().Add(ovsStart); ; {
		err := o.command("ovs-appctl", "-t", control, "version").Run()
		if err == nil {
			return nil
		}
		select {
		case <-c.Done():
			err = fmt.Errorf("ended: %v", c.Wait())
		case <-time.After(20 * time.Millisecond):
			if time.Now().Before(deadline) {
				continue
			}
		}
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("open vswitch: %s does not run: %w: %s", name, err, said)
	}
}

// vsctl changes the database and waits until the switch has followed.
func (o *openVSwitch) vsctl(args ...string) error {
	args = append([]string{"--db=unix:" + o.socket(), "--timeout=" + fmt.Sprint(int(ovsStart.Seconds()))}, args...)
	if out, err := o.command("ovs-vsctl", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("open vswitch: configure: %w: %s", err, out)
	}
	return nil
}

// OVSControl prepares a command for the node's own Open vSwitch (ovs-appctl,
// ovs-vsctl, ovs-ofctl).
func (n *Node) OVSControl(name string, args ...string) *Cmd {
	switch name {
	case "ovs-appctl":
		args = append([]string{"-t", filepath.Join(n.ovs.dir, "ovs-vswitchd.ctl")}, args...)
	case "ovs-vsctl":
		args = append([]string{"--db=unix:" + n.ovs.socket()}, args...)
	}
	return n.ovs.command(name, args...)
}

// CheckOVS reports why Open vSwitch with its userspace datapath cannot run here.
func CheckOVS() (err error) {
	s, err := Open(Options{Label: "ovs check"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	s.NewOVSNode(NodeOptions{
		Name: "probe", Switch: s.NewSwitch("switch"), VTEP: netip.MustParsePrefix("192.168.0.1/24"),
		Segments: []Segment{{Name: "probe", VNI: 1}},
	})
	return s.Err()
}
