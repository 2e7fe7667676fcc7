package liveness

import (
	"testing"

	"github.com/sluicegw/sluice/internal/packet"
	"github.com/sluicegw/sluice/relay"
)

func TestOnlyTheLatestAnswerSaysHowAPeerIs(t *testing.T) {
	var n notice
	for _, c := range []struct {
		name    string
		last    uint16
		seq     uint16
		said    packet.Notice
		changed bool
		want    packet.Notice
	}{
		{"the first", 1, 1, 0, false, 0},
		{"it is leaving", 5, 3, packet.Elsewhere, true, packet.Elsewhere},
		{"one from before comes late", 5, 2, 0, false, packet.Elsewhere},
		{"twice", 5, 3, 0, false, packet.Elsewhere},
		{"an answer to what was never asked", 5, 6, 0, false, packet.Elsewhere},
		{"one that is too old", 200, 100, 0, false, packet.Elsewhere},
		{"it stays after all", 200, 200, 0, true, 0},
		{"numbers begin anew", 2, 0xffff, packet.Elsewhere, true, packet.Elsewhere},
		{"and go on", 2, 1, 0, true, 0},
		{"after an hour of silence", 0x8123, 0x8123, packet.Elsewhere, true, packet.Elsewhere},
	} {
		if c.name == "numbers begin anew" {
			n.seq = 0xfff0
		}
		if changed := n.hear(c.last, relay.EchoReply{Seq: c.seq, Notice: c.said}); changed != c.changed || n.said != c.want {
			t.Errorf("%s: changed %t, says %d; want %t, %d", c.name, changed, n.said, c.changed, c.want)
		}
	}
}
