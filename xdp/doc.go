// Package xdp is the eBPF program that picks out, on a gateway's NICs, exactly the packets that the relay handles.
package xdp
