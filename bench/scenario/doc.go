// Package scenario builds what contestants are measured in: two sites in network
// namespaces, with a gateway each, the same for every contestant.
//
//	end1 - site0 gw1 wan0 - wan0 gw2 site0 - end2
//
// The generator sends from end1 on one CPU, the sink is an XDP program on the last
// link; everything under test runs on another CPU. In the directions encrypt and
// decrypt the WAN is a host of its own between the gateways, where packets are
// counted or come from.
//
// A contestant is a Driver: it turns two bare hosts into gateways. The package
// knows no driver (those are in bench/contestants) and no statistics (bench/method).
//
//	run, err := scenario.New(driver).Start(ctx, method.Scenario{Size: 64})
//	defer run.Stop()
//	counts, err := run.Offer(ctx, 0, time.Second)
//
// Links carry what a wire would carry: checksum and segmentation offload are off on
// every one of them, and nothing is coalesced on the way in, unless the scenario is
// Native. A Lab and its Run are used by one goroutine at a time.
package scenario
