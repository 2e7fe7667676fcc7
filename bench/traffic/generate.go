package traffic

// As in package xdp: committed objects, clang 14, little-endian machines.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel generator bpf/generator.c -- -I../../xdp/bpf -O2 -mcpu=v3 -Wall -Wextra -Wno-missing-field-initializers -Werror
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel replay bpf/replay.c -- -I../../xdp/bpf -O2 -mcpu=v3 -Wall -Wextra -Wno-missing-field-initializers -Werror
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel sink bpf/sink.c -- -I../../xdp/bpf -O2 -mcpu=v3 -Wall -Wextra -Wno-missing-field-initializers -Werror
