package pair

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/sluicegw/sluice/bench/method"
)

const (
	// batchSize is how many packets a system call takes.
	batchSize = 64
	// catchUp is how much of its time a sender that was late makes up for: with more, its bursts
	// would overrun queues that the rate itself does not.
	catchUp = 2 * time.Millisecond
	// nap is the least that a sender sleeps: shorter sleeps take this long anyway.
	nap = 50 * time.Microsecond
	// maxRefused are the times in a row that the network may refuse what is sent.
	maxRefused = 10_000
)

// outlet is where a flow's packets leave from: a socket that is connected, or one with an address.
type outlet struct {
	socket *socket
	to     netip.AddrPort // zero: connected
}

// send sends a trial's packets, a goroutine for each flow.
func send(ctx context.Context, t trial, tag [tagLen]byte, v6 bool, outlets []outlet) (sum sent, err error) {
	meter, err := method.StartMeter(nil)
	if err != nil {
		return sum, err
	}
	begin := time.Now()
	all, errs := make([]sent, t.Flows), make([]error, t.Flows)
	var wait sync.WaitGroup
	for i := range t.Flows {
		wait.Go(func() { all[i], errs[i] = sendFlow(ctx, t, tag, v6, uint16(i), outlets[i]) })
	}
	wait.Wait()
	sum.Duration = time.Since(begin)
	for _, s := range all {
		sum.Packets += s.Packets
		sum.Bytes += s.Bytes
	}
	usage, err := meter.Stop()
	sum.Steal = usage.Steal
	return sum, errors.Join(append(errs, err)...)
}

// sendFlow sends one flow's share. Packets that the host has no room for count as not sent, and their
// sequence number is used again.
func sendFlow(ctx context.Context, t trial, tag [tagLen]byte, v6 bool, number uint16, o outlet) (done sent, err error) {
	payload := t.Size - overhead(v6)
	messages := make([]ipv4.Message, batchSize)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, payload)}
		if o.to.IsValid() {
			messages[i].Addr = net.UDPAddrFromAddrPort(o.to)
		}
	}
	rate := t.Rate / float64(t.Flows)
	burst := max(rate*catchUp.Seconds(), 1)
	begin := time.Now()
	last, tokens, refused := begin, 1.0, 0
	for {
		now := time.Now()
		if now.Sub(begin) >= t.Duration || ctx.Err() != nil {
			return done, ctx.Err()
		}
		tokens = min(tokens+rate*now.Sub(last).Seconds(), burst)
		last = now
		if tokens < 1 {
			time.Sleep(max(time.Duration((1-tokens)/rate*float64(time.Second)), nap))
			continue
		}
		n := min(int(tokens), batchSize)
		for i := range n {
			header{What: data, Flow: number, Trial: t.ID, Seq: done.Packets + uint64(i), Sent: now.UnixNano()}.put(messages[i].Buffers[0], tag)
		}
		wrote, err := o.socket.batch.WriteBatch(messages[:n], 0)
		switch {
		case err == nil:
			refused = 0
		case errors.Is(err, syscall.EMSGSIZE):
			return done, fmt.Errorf("send: a packet of %d bytes does not fit into this host's interface", t.Size)
		case temporary(err):
			wrote = max(wrote, 0)
			if refused++; refused > maxRefused {
				return done, fmt.Errorf("send: %w", err)
			}
		default:
			return done, fmt.Errorf("send: %w", err)
		}
		tokens -= float64(n)
		done.Packets += uint64(wrote)
		done.Bytes += uint64(wrote * t.Size)
	}
}

// temporary says that a later packet may go: a queue was full, or an ICMP error came back.
func temporary(err error) bool {
	for _, e := range []error{syscall.ENOBUFS, syscall.EAGAIN, syscall.EINTR, syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
