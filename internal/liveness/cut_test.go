package liveness

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/relay/wireguard"
)

func TestAPeerThatIsCutOffIsDownAtOnceAndUpWhenItAnswersAgain(t *testing.T) {
	now, dead := int64(1), false
	replies, changes := make(chan relay.EchoReply, 8), 0
	p := New(Options{Clock: func() int64 { return now }, Replies: replies, ID: 1, OnChange: func() { changes++ },
		Send: func(peer uint32, b []byte, _ wireguard.Endpoint) bool {
			if !dead {
				replies <- relay.EchoReply{Peer: peer, Seq: uint16(b[26])<<8 | uint16(b[27]), Len: len(b), At: now}
			}
			return true
		}})
	peer := Peer{ID: 7, Local: netip.MustParseAddr("100.64.0.1"), Remote: netip.MustParseAddr("100.64.0.2"), Interval: 100 * time.Millisecond, Multiplier: 3}
	goOn := func(d time.Duration) {
		for end := now + int64(d); now < end; {
			now += int64(min(p.Work(), 10*time.Millisecond))
		}
	}
	set := func(cut bool) {
		dead, peer.Cut = cut, cut
		p.SetPeers([]Peer{peer})
	}
	peer.Cut = true
	p.SetPeers([]Peer{peer})
	if s := p.Status(7).State; s != Unknown || changes != 0 {
		t.Fatalf("one that has never answered is %v", s)
	}
	set(false)
	goOn(time.Second)
	before := changes
	set(true)
	if !p.Dead(7) || changes != before+1 {
		t.Fatalf("it is %v, %d changes", p.Status(7).State, changes-before)
	}
	set(true)
	goOn(time.Second)
	if !p.Dead(7) || changes != before+1 {
		t.Errorf("later it is %v, %d changes", p.Status(7).State, changes-before)
	}
	set(false)
	goOn(time.Second)
	if p.Dead(7) || changes != before+2 {
		t.Errorf("it answers again and is %v, %d changes", p.Status(7).State, changes-before)
	}
}
