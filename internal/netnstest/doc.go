// Package netnstest builds small networks out of network namespaces: hosts,
// veth pairs, bridges, VXLAN nodes, Open vSwitch nodes, sites. Tests use it,
// and so does `sluice demo`.
//
// A Scope owns everything that is made in it. In a test it comes from New and
// ends with the test; in a program it comes from Open and ends with Close. What
// a killed process left behind is removed when the next scope opens, and only
// that: a scope's owner holds a file lock for as long as it lives.
//
// It is not a simulator: the hosts are namespaces of this kernel, and nothing of
// the machine's own network is ever touched.
//
// Building functions return no errors. In a test the first error ends the test;
// in a program it is kept, everything after it does nothing, and Err reports it
// (as bufio.Writer does), so that a topology reads as a list of what it is made of.
//
//	s := netnstest.New(t)
//	a, b := s.NewHost("a"), s.NewHost("b")
//	s.Connect(
//		netnstest.End{Host: a, Name: "eth0", Addrs: netnstest.Prefixes("10.0.0.1/24", "fd00::1/64")},
//		netnstest.End{Host: b, Name: "eth0", Addrs: netnstest.Prefixes("10.0.0.2/24", "fd00::2/64")},
//	)
//	err := a.Do(func() error { return ping("10.0.0.2") })
//
// Everything made here suits XDP and AF_XDP: checksum offload (and with it
// segmentation offload) is off on veth ends unless asked for, as a packet that
// a program takes off a veth would otherwise carry unfinished sums. IPv6
// addresses are usable at once (no duplicate address detection).
//
// A Scope and its hosts are built by one goroutine; in a test, the test's own.
// Host.Do, Host.Command and what is read may be called by any goroutine.
package netnstest
