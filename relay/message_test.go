package relay

import (
	"maps"
	"testing"

	"github.com/sluicegw/sluice/internal/packet"
)

func TestMessagesOfAPeerReachTheirListenerAndNobodyElse(t *testing.T) {
	p := newPair(t, gatewayOptions{})
	p.connect(t)
	heard := make(chan PeerMessage, 2)
	stop, err := p.b.relay.ListenMessages(51822, heard)
	check(t, err)
	if _, err := p.b.relay.ListenMessages(51822, heard); err == nil {
		t.Error("two listen on the same port")
	}
	if _, err := p.b.relay.ListenMessages(packet.PortGeneve, heard); err == nil {
		t.Error("somebody listens on Geneve's port")
	}
	if _, err := p.b.relay.ListenMessages(51823, make(chan PeerMessage)); err == nil {
		t.Error("a channel without a buffer")
	}
	tell := func(family int, port uint16, payload string) map[string]uint64 {
		return p.b.verdicts(func() {
			p.a.relay.SendToPeer(PeerPacket{Packet: packet.Datagram(tunnelAddrs(1)[family], tunnelAddrs(2)[family], 0, 1, port, []byte(payload)), Probe: true})
			p.settle()
		})
	}
	want := func(what string, got map[string]uint64, want string) {
		t.Helper()
		if !maps.Equal(got, map[string]uint64{want: 1}) {
			t.Errorf("%s: %v, want %s", what, got, want)
		}
	}
	for family := range 2 {
		want("a message", tell(family, 51822, "hello"), "message_heard")
		if m := <-heard; string(m.Data[:m.Len]) != "hello" || m.At == 0 {
			t.Errorf("got %q at %d", m.Data[:m.Len], m.At)
		}
	}
	if got := tell(0, 51823, "hello"); got["message_heard"] != 0 {
		t.Errorf("another port: %v", got)
	}
	want("the longest", tell(0, 51822, string(make([]byte, MaxPeerMessage))), "message_heard")
	want("one that is too long", tell(0, 51822, string(make([]byte, MaxPeerMessage+1))), "message_lost")
	want("the last that there is room for", tell(0, 51822, ""), "message_heard")
	want("one too many", tell(0, 51822, "hello"), "message_lost")
	stop()
	if got := tell(0, 51822, "hello"); got["message_lost"]+got["message_heard"] != 0 {
		t.Errorf("nobody listens any more: %v", got)
	}
}
