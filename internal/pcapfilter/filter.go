// Package pcapfilter compiles filters in the syntax of pcap-filter(7) to classic
// BPF. The compiler is libpcap's, built for WebAssembly (wasm/build.sh), because a
// static program of Go cannot be linked with C, and the syntax is defined by nothing
// but libpcap.
package pcapfilter

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"golang.org/x/net/bpf"
)

//go:embed libpcap.wasm
var libpcap []byte

// LinkType says what a packet begins with (LINKTYPE_ values of pcap-linktype(7)).
type LinkType uint32

// The link types of captures.
const (
	Ethernet LinkType = 1
	RawIP    LinkType = 12 // DLT_RAW as Linux numbers it
)

// snapLength is the longest packet that a program is for.
const snapLength = 1 << 18

// Error is what libpcap says of a filter that it does not take.
type Error string

func (e Error) Error() string { return string(e) }

// Compile compiles a filter for packets of a link type. Names of hosts and services
// in it are resolved here, for as long as ctx allows.
func Compile(ctx context.Context, link LinkType, filter string) ([]bpf.RawInstruction, error) {
	if strings.IndexByte(filter, 0) >= 0 {
		return nil, Error("a filter has no zero bytes")
	}
	module, err := instantiate(ctx)
	if err != nil {
		return nil, fmt.Errorf("libpcap: %w", err)
	}
	defer module.Close(ctx)
	n, err := compile(ctx, module, link, filter)
	if problem := stringAt(ctx, module, "problem"); problem != "" {
		return nil, Error(problem)
	}
	if err != nil {
		return nil, fmt.Errorf("libpcap: %w", err)
	}
	return program(ctx, module, n)
}

// instantiate makes an instance for one filter: libpcap leaves by longjmp, which WebAssembly has not, and so
// an instance is in disorder after a filter with an error.
func instantiate(ctx context.Context) (api.Module, error) {
	l, err := load()
	if err != nil {
		return nil, err
	}
	// Without a name there may be several.
	return l.runtime.InstantiateModule(ctx, l.module, wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize"))
}

// loaded is libpcap, ready to be instantiated.
type loaded struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
}

// load decodes the module, once. It is interpreted: a filter is compiled before a compiler of WebAssembly would have begun.
var load = sync.OnceValues(func() (l loaded, err error) {
	ctx := context.Background()
	l.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(memoryPages).WithCloseOnContextDone(true))
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, l.runtime); err != nil {
		return l, err
	}
	_, err = l.runtime.NewHostModuleBuilder("sluice").
		NewFunctionBuilder().WithFunc(host).Export("host").
		NewFunctionBuilder().WithFunc(service).Export("service").
		NewFunctionBuilder().WithFunc(protocol).Export("protocol").
		Instantiate(ctx)
	if err != nil {
		return l, err
	}
	l.module, err = l.runtime.CompileModule(ctx, libpcap)
	return l, err
})

// memoryPages bounds what a filter may take: 64 MiB.
const memoryPages = 1024

// compile returns the number of instructions. An error may have a better reason in the module.
func compile(ctx context.Context, m api.Module, link LinkType, filter string) (uint32, error) {
	space, err := m.ExportedFunction("space").Call(ctx, uint64(len(filter)+1))
	if err != nil {
		return 0, err
	}
	if at := uint32(space[0]); at == 0 || !m.Memory().WriteString(at, filter+"\x00") {
		return 0, errors.New("the filter is too long")
	}
	n, err := m.ExportedFunction("compile").Call(ctx, uint64(link), snapLength, space[0])
	if err != nil {
		return 0, err
	}
	return uint32(n[0]), nil
}

// program reads the instructions: eight bytes each, of which the first two are the code.
func program(ctx context.Context, m api.Module, n uint32) ([]bpf.RawInstruction, error) {
	at, err := m.ExportedFunction("instructions").Call(ctx)
	if err != nil {
		return nil, fmt.Errorf("libpcap: %w", err)
	}
	b, ok := m.Memory().Read(uint32(at[0]), n*8)
	if !ok || n == 0 || n > maxInstructions {
		return nil, fmt.Errorf("libpcap: a program of %d instructions", n)
	}
	instructions := make([]bpf.RawInstruction, n)
	for i := range instructions {
		b := b[i*8:]
		instructions[i] = bpf.RawInstruction{Op: binary.LittleEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.LittleEndian.Uint32(b[4:])}
		if jump, ok := instructions[i].Disassemble().(bpf.Jump); ok && jump.Skip >= n {
			return nil, Error("the filter has a loop, as protochain makes one: no packet path runs such programs")
		}
	}
	return instructions, nil
}

// maxInstructions is what the kernel takes (BPF_MAXINSNS).
const maxInstructions = 4096

// stringAt reads the string that a function of the module returns; empty also if it has none.
func stringAt(ctx context.Context, m api.Module, function string) string {
	at, err := m.ExportedFunction(function).Call(ctx)
	if err != nil {
		return ""
	}
	const longest = 256 // PCAP_ERRBUF_SIZE
	b, _ := m.Memory().Read(uint32(at[0]), longest)
	text, _, _ := strings.Cut(string(b), "\x00")
	return text
}

// host resolves a name: see wasm/names.c for the three.
func host(ctx context.Context, m api.Module, name, length, out, most uint32) uint32 {
	text, _ := m.Memory().Read(name, length)
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", string(text))
	if err != nil {
		return 0 // libpcap says that the name is unknown
	}
	addrs = addrs[:min(len(addrs), int(most))]
	for i, a := range addrs {
		var entry [17]byte
		copy(entry[1:], a.Unmap().AsSlice())
		entry[0] = byte(a.Unmap().BitLen() / 8)
		m.Memory().Write(out+uint32(i*len(entry)), entry[:])
	}
	return uint32(len(addrs))
}

func service(ctx context.Context, m api.Module, name, length, udp uint32) int32 {
	text, _ := m.Memory().Read(name, length)
	network := "tcp"
	if udp != 0 {
		network = "udp"
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, string(text))
	if err != nil {
		return -1
	}
	return int32(port)
}

// protocol knows the protocols by the names that they have in pcap-filter(7); libpcap would ask /etc/protocols.
func protocol(_ context.Context, m api.Module, name, length uint32) int32 {
	text, _ := m.Memory().Read(name, length)
	if number, ok := protocols[string(text)]; ok {
		return number
	}
	return -1
}

// protocols are numbers of IANA.
var protocols = map[string]int32{
	"icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "igp": 9, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47,
	"esp": 50, "ah": 51, "ipv6-icmp": 58, "icmp6": 58, "eigrp": 88, "ospf": 89, "pim": 103, "vrrp": 112, "carp": 112,
	"l2tp": 115, "sctp": 132, "udplite": 136,
}
