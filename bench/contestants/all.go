package contestants

import "github.com/sluicegw/sluice/bench/scenario"

// All contestants, ours first. Those that this machine lacks something for are among
// them: they say so when they are started.
func All() []scenario.Driver {
	return []scenario.Driver{
		Sluice{},
		WireGuardGo{}, Nebula{},
		OVS{Tunnel: "geneve"}, OVS{Tunnel: "vxlan"},
		PcapRelay{},
		KernelForward{}, KernelVXLAN{},
	}
}
