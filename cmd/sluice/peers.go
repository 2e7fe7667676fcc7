package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

func newPeers() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:     "peers [NAME]",
		Short:   "List the other gateways, or everything about one",
		GroupID: groupRead,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &sluicev1.PeersRequest{}
			if len(args) > 0 {
				request.Name = args[0]
			}
			r, err := c.dial().Peers(cmd.Context(), request)
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
				if len(args) == 0 {
					return writePeerTables(w, r.GetPeers(), time.Now())
				}
				return writePeers(w, r.GetPeers(), time.Now())
			})
		},
	}
	c.flags(cmd)
	return cmd
}

func peerTable(peers []*sluicev1.Peer, now time.Time) *table {
	t := newTable("PEER", "STATE", "ALIVE", "ENDPOINT", ">MTU", "HANDSHAKE", ">RX", ">TX", "PUBLIC KEY")
	for _, p := range peers {
		t.add(p.GetName(), api.Word(p.GetState()), aliveText(p.GetLiveness()), dash(p.GetEndpoint()), mtuText(p), agoText(p.GetLastHandshake(), now),
			traffic(p.GetRxPackets(), p.GetRxBytes()), traffic(p.GetTxPackets(), p.GetTxBytes()), dash(p.GetPublicKey()))
	}
	return t
}

// writePeers writes everything about each peer.
func writePeers(w io.Writer, peers []*sluicev1.Peer, now time.Time) error {
	var b strings.Builder
	for i, p := range peers {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s: %s\n", p.GetName(), api.Word(p.GetState()))
		if p.GetProblem() != "" {
			fmt.Fprintf(&b, "  ! %s\n", p.GetProblem())
		}
		line := func(what, text string) { fmt.Fprintf(&b, "%-17s %s\n", what, text) }
		encrypted := p.GetState() != sluicev1.PeerState_PEER_STATE_UNENCRYPTED
		if encrypted {
			line("public key", p.GetPublicKey())
			line("pre-shared key", yesNo(p.GetHasPresharedKey()))
		} else {
			line("encryption", "none: everything travels in the clear")
		}
		line("endpoint", dash(p.GetEndpoint()))
		line("configured", dash(p.GetConfiguredEndpoint()))
		if encrypted {
			line("last handshake", agoText(p.GetLastHandshake(), now))
			line("session age", durationText(p.GetSessionAge()))
		}
		line("received", traffic(p.GetRxPackets(), p.GetRxBytes()))
		line("sent", traffic(p.GetTxPackets(), p.GetTxBytes()))
		if encrypted {
			line("alive", livenessText(p.GetLiveness()))
			for _, path := range p.GetPaths() {
				line("path "+path.GetName(), pathText(path))
			}
			if r := p.GetRelayed(); r != nil {
				line("relayed with", relayedText(r))
			}
			line("mtu", mtuStateText(p))
			line("keepalive", keepaliveText(p))
			line("tunnel addresses", dash(strings.Join(p.GetTunnelAddresses(), " ")))
		}
		for _, v := range p.GetVpcs() {
			line("vpc "+v.GetVpc(), fmt.Sprintf("vni %d  %s", v.GetVni(), dash(strings.Join(v.GetAllowedPrefixes(), " "))))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// aliveText is what probes inside the tunnel have found, in a cell.
func aliveText(l *sluicev1.Liveness) string {
	switch l.GetState() {
	case sluicev1.LiveState_LIVE_STATE_UP:
		if l.GetElsewhere() {
			return "yes, elsewhere"
		}
		return "yes, " + l.GetRtt().AsDuration().Round(10*time.Microsecond).String()
	case sluicev1.LiveState_LIVE_STATE_DOWN:
		return "no"
	}
	return "-"
}

func livenessText(l *sluicev1.Liveness) string {
	switch l.GetState() {
	case sluicev1.LiveState_LIVE_STATE_UNSPECIFIED, sluicev1.LiveState_LIVE_STATE_OFF:
		return "not probed"
	case sluicev1.LiveState_LIVE_STATE_UNKNOWN:
		return "not known: it has never answered a probe"
	}
	short := func(d *durationpb.Duration) time.Duration { return d.AsDuration().Round(10 * time.Microsecond) }
	text := fmt.Sprintf("%s, round trip %v (least %v, jitter %v), %d of %d probes lost",
		api.Word(l.GetState()), short(l.GetRtt()), short(l.GetMinRtt()), short(l.GetJitter()), l.GetLost(), l.GetProbes())
	if l.GetElsewhere() {
		text += "; it asks us to send through another gateway (it is being drained, or has only just started)"
	}
	return text
}

// mtuText is short: a figure that is not found yet, or is the port's for want of answers, has a question mark.
func mtuText(p *sluicev1.Peer) string {
	switch {
	case p.GetMtu() == 0:
		return "-"
	case p.GetMtuState() == sluicev1.MTUState_MTU_STATE_CONFIRMED || p.GetMtuState() == sluicev1.MTUState_MTU_STATE_CONFIGURED:
		return fmt.Sprint(p.GetMtu())
	}
	return fmt.Sprint(p.GetMtu(), "?")
}

func mtuStateText(p *sluicev1.Peer) string {
	if p.GetMtu() == 0 {
		return "not known"
	}
	state := strings.ReplaceAll(api.Word(p.GetMtuState()), "_", " ")
	if p.GetMtu() == p.GetMtuLimit() {
		return fmt.Sprintf("%d, %s; as the port allows", p.GetMtu(), state)
	}
	return fmt.Sprintf("%d, %s; the port allows %d", p.GetMtu(), state, p.GetMtuLimit())
}

func keepaliveText(p *sluicev1.Peer) string {
	if d := p.GetPersistentKeepalive().AsDuration(); d > 0 {
		return "every " + api.Age(d)
	}
	return "off"
}
