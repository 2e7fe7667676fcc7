// The forwarder on github.com/asavie/xdp that package afxdp is measured against, with the library's own world of
// dependencies of 2021: what bench/afxdp builds from here never touches the main module. v0.3.3 is the library's last
// version, and has to be named: the project is archived, and the module proxy refused to resolve "latest" for it
// (tried in November 2026).
module github.com/sluicegw/sluice/bench/baselines/asavie

go 1.26.0

require (
	github.com/asavie/xdp v0.3.3
	github.com/cilium/ebpf v0.4.0
	golang.org/x/sys v0.0.0-20210324051608-47abb6519492
)

require (
	github.com/vishvananda/netlink v1.1.0 // indirect
	github.com/vishvananda/netns v0.0.0-20191106174202-0a2b9b5464df // indirect
)
