package contestants

import "github.com/sluicegw/sluice/bench/scenario"

// All contestants that setup.sh makes available on any machine, ours first.
func All() []scenario.Driver {
	return []scenario.Driver{
		Sluice{},
		WireGuardGo{}, Nebula{},
		OVS{Tunnel: "geneve"}, OVS{Tunnel: "vxlan"},
		PcapRelay{},
		KernelForward{}, KernelVXLAN{}, SluiceDirect{},
	}
}

// Elsewhere are those that need what setup.sh cannot install: a kernel with more in it, or packages that Debian does not
// have. They are part of every run, and say what is missing when they are started.
func Elsewhere() []scenario.Driver {
	return []scenario.Driver{KernelWireGuard{}, XFRM{}, VPP{}}
}
