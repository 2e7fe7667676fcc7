package gateway_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/netnstest"
)

// flowTest counts what is lost of many UDP flows between two hosts, in both directions, and knows which of them went
// through which link.
type flowTest struct {
	hosts [2]*netnstest.Host
	addrs [2]netip.Addr
	flows int // in each direction
	pps   int // in all of each direction

	mu     sync.Mutex
	got    [2][][]bool                // by direction, flow, sequence number
	passed map[string]map[flowID]bool // by name of the link
	watch  bool
}

// flowID is a flow of direction 0 (from host 0 to host 1) or 1.
type flowID struct{ direction, flow int }

const (
	flowPort  = 9100
	flowMagic = 0x666c6f77
	flowBytes = 16
)

// packetRate is how many packets a second each direction has: few enough for a busy machine, or what SLUICE_PPS says.
func packetRate(t testing.TB) int {
	if text := os.Getenv("SLUICE_PPS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SLUICE_PPS: %v", err)
		}
		return n
	}
	return 2000
}

// newFlowTest listens at both hosts, until the test ends.
func newFlowTest(t testing.TB, hosts [2]*netnstest.Host, addrs [2]netip.Addr) *flowTest {
	t.Helper()
	f := &flowTest{hosts: hosts, addrs: addrs, flows: 64, pps: packetRate(t), passed: make(map[string]map[flowID]bool)}
	for i, h := range hosts {
		var conn *net.UDPConn
		if err := h.Do(func() (err error) {
			conn, err = net.ListenUDP("udp", &net.UDPAddr{Port: flowPort})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		bigBuffer(t, conn)
		t.Cleanup(func() { conn.Close() })
		direction := 1 - i
		go func() {
			buf := make([]byte, 64)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				if flow, seq, ok := parseFlow(buf[:n]); ok {
					f.mu.Lock()
					if flow < len(f.got[direction]) && seq < len(f.got[direction][flow]) {
						f.got[direction][flow][seq] = true
					}
					f.mu.Unlock()
				}
			}
		}()
	}
	return f
}

// bigBuffer makes room for what comes while the reader does not run.
func bigBuffer(t testing.TB, conn syscall.Conn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

func parseFlow(b []byte) (flow, seq int, ok bool) {
	if len(b) != flowBytes || binary.BigEndian.Uint32(b) != flowMagic {
		return 0, 0, false
	}
	return int(binary.BigEndian.Uint32(b[4:])), int(binary.BigEndian.Uint32(b[8:])), true
}

// observe notes which flows pass a link of a router, in the clear, until the test ends.
func (f *flowTest) observe(t testing.TB, name string, link *netnstest.Link) {
	t.Helper()
	var fd int
	if err := link.Host.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Index})
	}); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { file.Close() })
	f.passed[name] = make(map[flowID]bool)
	go func() {
		buf := make([]byte, 256)
		for {
			n, err := file.Read(buf)
			if errors.Is(err, unix.ENETDOWN) {
				continue
			}
			if err != nil {
				return
			}
			const headers = 14 + 20 + 8
			if n != headers+flowBytes {
				continue
			}
			flow, _, ok := parseFlow(buf[headers:n])
			if !ok {
				continue
			}
			id := flowID{flow: flow}
			if src, _ := netip.AddrFromSlice(buf[26:30]); src == f.addrs[1] {
				id.direction = 1
			}
			f.mu.Lock()
			if f.watch {
				f.passed[name][id] = true
			}
			f.mu.Unlock()
		}
	}()
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// result of a run.
type flowResult struct {
	sent, lost map[flowID]int
	passed     map[string]map[flowID]bool // while all was well
	perFlow    int                        // packets a second
}

// beginning is how long a run goes on before something happens.
const beginning = 500 * time.Millisecond

// run sends in both directions for a time; soon after the beginning it does something.
func (f *flowTest) run(t testing.TB, d time.Duration, act func()) flowResult {
	t.Helper()
	var conns [2][]*net.UDPConn
	per := int(d.Seconds()*float64(f.pps))/f.flows + 2
	for i, h := range f.hosts {
		if err := h.Do(func() error {
			for range f.flows {
				c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.addrs[1-i], flowPort)))
				if err != nil {
					return err
				}
				conns[i] = append(conns[i], c)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	for i := range f.got {
		f.got[i] = make([][]bool, f.flows)
		for j := range f.got[i] {
			f.got[i][j] = make([]bool, per)
		}
	}
	for name := range f.passed {
		clear(f.passed[name])
	}
	f.watch = true
	f.mu.Unlock()

	out := flowResult{sent: make(map[flowID]int), lost: make(map[flowID]int), passed: make(map[string]map[flowID]bool), perFlow: f.pps / f.flows}
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(min(beginning, d/2))
		f.mu.Lock()
		f.watch = false
		f.mu.Unlock()
		act()
	}()
	start := time.Now()
	begin := start
	for sent := 0; time.Since(start) < d; time.Sleep(time.Millisecond) {
		due := int(time.Since(begin).Seconds() * float64(f.pps))
		if late := due - sent - f.pps/50; late > 0 { // we were held up: what was not sent then would come in one burst
			due, begin = due-late, begin.Add(time.Duration(late)*time.Second/time.Duration(f.pps))
		}
		for ; sent < due; sent++ {
			flow, seq := sent%f.flows, sent/f.flows
			if seq >= per {
				break
			}
			b := binary.BigEndian.AppendUint32(nil, flowMagic)
			b = binary.BigEndian.AppendUint32(b, uint32(flow))
			b = binary.BigEndian.AppendUint32(b, uint32(seq))
			b = append(b, 0, 0, 0, 0)
			for i := range conns {
				_, _ = conns[i][flow].Write(b) // refused (ICMP says that there is no way): counted as lost
				out.sent[flowID{i, flow}] = seq + 1
			}
		}
	}
	<-done
	time.Sleep(300 * time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range conns {
		for flow, c := range conns[i] {
			c.Close()
			id := flowID{i, flow}
			for seq := range out.sent[id] {
				if !f.got[i][flow][seq] {
					out.lost[id]++
				}
			}
		}
	}
	for name, flows := range f.passed {
		out.passed[name] = make(map[flowID]bool)
		for id := range flows {
			out.passed[name][id] = true
		}
	}
	return out
}

// of sums up what was lost of the flows that passed a link, and the most that one of them lost, as time.
func (r *flowResult) of(link string) (flows, lost int, worst time.Duration) {
	for id := range r.passed[link] {
		flows++
		lost += r.lost[id]
		worst = max(worst, time.Duration(r.lost[id])*time.Second/time.Duration(r.perFlow))
	}
	return flows, lost, worst
}

// worst is the most that a flow of each direction has lost, as time.
func (r *flowResult) worst() (out [2]time.Duration) {
	for id, lost := range r.lost {
		out[id.direction] = max(out[id.direction], time.Duration(lost)*time.Second/time.Duration(r.perFlow))
	}
	return out
}

func (r *flowResult) total() (sent, lost int) {
	for id, n := range r.sent {
		sent += n
		lost += r.lost[id]
	}
	return sent, lost
}

// settles sends until nothing is lost.
func (f *flowTest) settles(t testing.TB) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		r := f.run(t, 400*time.Millisecond, func() {})
		sent, lost := r.total()
		if lost == 0 && sent > 0 {
			return
		}
		err = fmt.Errorf("%d of %d packets are lost", lost, sent)
	}
	t.Fatalf("traffic does not settle: %v", err)
}
