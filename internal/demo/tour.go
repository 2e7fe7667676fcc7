package demo

// tour says how to look around in a demo that is kept.
func (d *demo) tour() {
	d.table()
	oslo, bergen := d.lab.sites[0], d.lab.sites[1]
	d.say("Everything goes on running. Look around:\n\n")
	for _, g := range d.lab.gateways() {
		if g.gone {
			continue
		}
		d.say("  # gateway %s: its configuration is %s, its log %s\n", g.name, g.configFile(), g.logFile())
		d.say("  %s status --socket %s\n", d.Executable, g.socket())
		d.say("  %s counters --socket %s\n", d.Executable, g.socket())
	}
	if d.lab.routers {
		d.say("\n  # what the router at bergen has learned, and what the gateway has of it\n")
		d.say("  birdc -s %s/bird/ctl show route\n", bergen.router.Dir())
		d.say("  %s bgp --routes --socket %s\n", d.Executable, bergen.gateway.socket())
	}
	pod, host := oslo.pick("red", 1), oslo.host
	d.say("\n  # from pod and host at oslo to bergen\n")
	d.say("  ip netns exec %s ping %s\n", pod.host.Namespace(), bergen.pick("red", 1).addrs[0])
	d.say("  ip netns exec %s ping %s\n", host.host.Namespace(), bergen.host.addrs[1])
	d.say("\n  # what the WAN sees, and what the site sees\n")
	d.say("  ip netns exec %s tcpdump -ni %s\n", d.lab.wan.Namespace(), oslo.name)
	d.say("  ip netns exec %s tcpdump -ni br0 udp\n", oslo.sw.Namespace())
	d.say("\n  # all of its namespaces\n  ip netns list | grep %s\n", d.lab.scope.ID())
	d.say("\nCtrl-C, or `%s demo --clean` elsewhere, removes it.\n", d.Executable)
}
