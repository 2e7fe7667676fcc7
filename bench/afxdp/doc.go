// Package afxdp measures the forwarding speed of package afxdp over the same veth pairs as two others: the plain C
// forwarder in bench/baselines/xskfwd, and the one on the Go library asavie/xdp in bench/baselines/asavie.
//
//	go test -run '^$' -bench Forward ./bench/afxdp
//	go test -run '^$' -bench Forward/asavie ./bench/afxdp -quads 20 -limit 50s
//
// It has nothing but this benchmark. Absolute figures depend on the machine and
// its neighbours; what counts is the ratio of slices that ran next to each other.
package afxdp
