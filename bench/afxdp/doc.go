// Package afxdp measures the forwarding speed of package afxdp against the plain C
// forwarder in bench/baselines/xskfwd, over the same veth pairs:
//
//	go test -run '^$' -bench Forward ./bench/afxdp
//
// It has nothing but this benchmark. Absolute figures depend on the machine and
// its neighbours; what counts is the ratio of slices that ran next to each other.
package afxdp
