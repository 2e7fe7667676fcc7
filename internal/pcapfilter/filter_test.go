package pcapfilter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/net/bpf"

	"github.com/sluicegw/sluice/internal/testenv"
)

// taken are filters of every part of the syntax that captures of ours have packets for.
var taken = []string{
	"", "ip", "ip6", "icmp", "icmp6", "tcp", "udp", "not udp",
	"host 10.1.1.11", "src host 10.1.1.11 and not icmp", "dst net 10.2.0.0/16", "src or dst net 10.0.0.0 mask 255.0.0.0",
	"ip6 host fd00:1:1::11", "ip6 net fd00::/16 and udp", "net fd00:2::/32",
	"port 80", "tcp dst port http", "udp port domain or port 5000", "udp portrange 4000-9000", "tcp src portrange 1-1023",
	"tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "icmp[icmptype] == icmp-echo", "ip6[6] == 58 and ip6[40] == 128",
	"ip[8] < 2", "ip[0] & 0xf > 5", "ip6[7] = 1", "ip[6:2] & 0x1fff != 0", "len > 500", "less 100", "greater 1000", "len - 14 = ip[2:2]",
	"ip proto 47", `ip proto \udp`, "ip6 proto 6",
	"ip multicast", "ip6 multicast", "(tcp or udp) and not (host 10.1.1.11 or port 53)", "host 10.1.1.11 and (port 80 or 443)",
	"host 127.0.0.1 or host ::1",
}

// onEthernet only an Ethernet header can answer.
var onEthernet = []string{
	"ether host 02:00:00:00:00:01", "ether dst 02:00:00:00:00:02", "ether multicast", "ether broadcast", "ether proto 0x0806", "ether[0] & 1 != 0",
	"arp", "arp host 10.1.1.1", "mpls", "vlan 5", "geneve", "geneve 7 and icmp",
}

// TestFiltersTakeThePacketsThatTcpdumpTakes runs both compilers' programs over all golden captures.
func TestFiltersTakeThePacketsThatTcpdumpTakes(t *testing.T) {
	testenv.RequireTool(t, "tcpdump")
	packets := goldenPackets(t)
	both := 0
	for _, link := range []struct {
		name    string
		link    LinkType
		packets [][]byte
		filters []string
	}{
		{"EN10MB", Ethernet, packets[layers.LinkTypeEthernet], append(onEthernet, taken...)},
		{"RAW", RawIP, packets[layers.LinkTypeRaw], taken},
	} {
		if len(link.packets) < 50 {
			t.Fatalf("%s: only %d packets", link.name, len(link.packets))
		}
		for _, filter := range link.filters {
			program, err := Compile(t.Context(), link.link, filter)
			if err != nil {
				t.Errorf("%s %q: %v", link.name, filter, err)
				continue
			}
			ours, theirs := machine(t, program), machine(t, tcpdump(t, link.name, filter))
			yes := 0
			for i, b := range link.packets {
				got, want := takes(t, ours, b), takes(t, theirs, b)
				if got != want {
					t.Errorf("%s %q: packet %d %x: %v, tcpdump %v", link.name, filter, i, b, got, want)
				}
				if got {
					yes++
				}
			}
			if 0 < yes && yes < len(link.packets) {
				both++
			}
		}
	}
	if both < 40 {
		t.Errorf("only %d filters took some packets and left others", both)
	}
}

func TestABadFilterIsRefusedInWords(t *testing.T) {
	for filter, want := range map[string]string{
		"foo bar":                               "syntax error",
		"port 99999":                            "illegal port",
		"host nosuch.invalid":                   "unknown host",
		"tcp port nosuchservice":                "unknown port",
		"(tcp":                                  "syntax error",
		"ether host nosuch":                     "unknown ether host",
		"net 10.0.0.0/99":                       "mask length",
		"ip protochain 6":                       "loop",
		"tcp\x00":                               "zero bytes",
		"ip[9]=" + strings.Repeat("(", 100_000): "",
	} {
		_, err := Compile(t.Context(), Ethernet, filter)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", filter, err, want)
		}
	}
	if _, err := Compile(t.Context(), RawIP, "ether multicast"); !errors.As(err, new(Error)) {
		t.Errorf("an Ethernet filter for bare IP: %v", err)
	}
}

func TestCompilingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Compile(ctx, Ethernet, "host 10.0.0.1"+strings.Repeat(" or host 10.0.0.1 and port 7", 20_000))
	if took := time.Since(began); err == nil || took > 20*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

func FuzzCompile(f *testing.F) {
	for _, filter := range append(onEthernet, taken...) {
		f.Add(filter, false)
		f.Add(filter, true)
	}
	f.Fuzz(func(t *testing.T, filter string, raw bool) {
		link := Ethernet
		if raw {
			link = RawIP
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		program, err := Compile(ctx, link, filter)
		if err == nil {
			takes(t, machine(t, program), []byte{0x45, 0, 0, 20})
		}
	})
}

// machine is the program as golang.org/x/net/bpf runs it, which the gateway does too.
func machine(t *testing.T, raw []bpf.RawInstruction) *bpf.VM {
	program, _ := bpf.Disassemble(raw)
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatalf("%v: %v", program, err)
	}
	return vm
}

func takes(t *testing.T, vm *bpf.VM, b []byte) bool {
	n, err := vm.Run(b)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// tcpdump compiles a filter with the machine's own libpcap; it prints a count, and four numbers for each instruction.
func tcpdump(t *testing.T, link, filter string) []bpf.RawInstruction {
	out, err := exec.Command("tcpdump", "-ddd", "-y", link, "--", filter).Output()
	if err != nil {
		t.Fatalf("tcpdump %q: %v", filter, err)
	}
	r := strings.NewReader(string(out))
	var n int
	if _, err := fmt.Fscan(r, &n); err != nil {
		t.Fatal(err)
	}
	program := make([]bpf.RawInstruction, n)
	for i := range program {
		if _, err := fmt.Fscan(r, &program[i].Op, &program[i].Jt, &program[i].Jf, &program[i].K); err != nil {
			t.Fatal(err)
		}
	}
	return program
}

// goldenPackets are those of the relay's golden captures, by link type.
func goldenPackets(t *testing.T) map[layers.LinkType][][]byte {
	files, err := filepath.Glob("../../relay/testdata/*.pcap")
	if err != nil {
		t.Fatal(err)
	}
	packets := make(map[layers.LinkType][][]byte)
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := pcapgo.NewReader(file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for {
			b, _, err := r.ReadPacketData()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			packets[r.LinkType()] = append(packets[r.LinkType()], b)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return packets
}
