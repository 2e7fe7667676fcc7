package xdp

// The object and its bindings are committed, so that users need no clang. The compiler's version is part of the result:
// generate with clang 14 (Debian 12: clang-14, llvm-14, libbpf-dev). mcpu=v3 needs Linux 5.12.
// Only little-endian machines are supported, for no big-endian one runs the tests.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type port_key -type port -type port_flags -type vni_flags -type service -type destination -type route -type headers -type hop -type hop_count -type address -type udp_port_key -type route4_key -type route6_key bpf bpf/sluice.c -- -O2 -mcpu=v3 -Wall -Wextra -Wno-missing-field-initializers -Werror
