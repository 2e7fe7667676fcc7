package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
)

func newStatus() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Say how the gateway is doing, and what is wrong",
		GroupID: groupRead,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.dial().Status(cmd.Context(), &sluicev1.StatusRequest{})
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), s, func(w io.Writer) error { return writeStatus(w, s, time.Now()) })
		},
	}
	c.flags(cmd)
	return cmd
}

func writeStatus(w io.Writer, s *sluicev1.StatusResponse, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s at site %s: %s\n", s.GetGateway(), s.GetSite(), strings.ToUpper(api.Word(s.GetHealth())))
	for _, p := range s.GetProblems() {
		fmt.Fprintf(&b, "  ! %s\n", p)
	}
	for _, n := range s.GetNotes() {
		fmt.Fprintf(&b, "  - %s\n", n)
	}
	fmt.Fprintf(&b, "version     %s, up %s, %s, %s, %s\n", s.GetVersion(), durationText(s.GetUptime()),
		count(int(s.GetWorkers()), "worker"), count(int(s.GetVpcCount()), "VPC"), count(int(s.GetRouteCount()), "route"))
	fmt.Fprintf(&b, "config      revision %d of %s, applied %s\n", s.GetConfig().GetRevision(), s.GetConfig().GetPath(), agoText(s.GetConfig().GetApplied(), now))
	fmt.Fprintf(&b, "public key  %s, UDP port %d\n\n", s.GetPublicKey(), s.GetListenPort())
	if err := portTable(s.GetPorts()).write(&b); err != nil {
		return err
	}
	if s.GetTun() != nil {
		b.WriteByte('\n')
		if err := tunTable(s.GetTun()).write(&b); err != nil {
			return err
		}
	}
	if len(s.GetPeers()) > 0 {
		b.WriteByte('\n')
		if err := writePeerTables(&b, s.GetPeers(), now); err != nil {
			return err
		}
	}
	if len(s.GetLimits()) > 0 {
		b.WriteByte('\n')
		if err := limitTable(s.GetLimits()).write(&b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func tunTable(p *sluicev1.TunPort) *table {
	t := newTable("TUN", ">MTU", ">TO KERNEL", ">FROM KERNEL", ">LOST", ">PEERS", "ADDRESSES")
	t.add(p.GetName(), fmt.Sprint(p.GetMtu()), traffic(p.GetToKernelPackets(), p.GetToKernelBytes()), traffic(p.GetFromKernelPackets(), p.GetFromKernelBytes()),
		fmt.Sprint(p.GetLost()), fmt.Sprint(len(p.GetPeers())), dash(strings.Join(p.GetAddresses(), " ")))
	return t
}

// limitTable has a column of refused packets for every class.
func limitTable(limits []*sluicev1.Limit) *table {
	t := newTable("LIMIT", "DIRECTION", ">BIT/S", ">PACKET/S", ">REFUSED: HIGH", ">VIDEO", ">NORMAL", ">LEAST")
	for _, l := range limits {
		row := []string{l.GetName(), l.GetDirection(), rateText(l.GetRate()), rateText(l.GetPacketRate())}
		for _, c := range l.GetRefused() {
			row = append(row, fmt.Sprint(c.GetPackets()))
		}
		t.add(row...)
	}
	return t
}

// rateText returns a rate as the configuration has it; 0 is any.
func rateText(n uint64) string {
	if n == 0 {
		return "any"
	}
	return config.Rate(n).String()
}

func portTable(ports []*sluicev1.Port) *table {
	t := newTable("PORT", "XDP", "ZERO-COPY", ">QUEUES", ">MTU", "LINK", ">RX", ">TX", ">RX DROPPED", "ADDRESSES")
	for _, p := range ports {
		link := "down"
		if p.GetLinkUp() {
			link = "up"
		}
		t.add(p.GetName(), dash(p.GetXdpMode()), yesNo(p.GetZeroCopy()), fmt.Sprint(p.GetQueues()), fmt.Sprint(p.GetMtu()), link,
			traffic(p.GetRxPackets(), p.GetRxBytes()), traffic(p.GetTxPackets(), p.GetTxBytes()), fmt.Sprint(p.GetRxDropped()),
			dash(strings.Join(p.GetAddresses(), " ")))
	}
	return t
}

// traffic returns packets and bytes in one cell.
func traffic(packets, bytes uint64) string {
	return fmt.Sprintf("%d pkt, %s", packets, bytesText(bytes))
}
