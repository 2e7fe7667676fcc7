package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// protocols that --proto takes by name.
var protocols = map[string]uint32{"icmp": 1, "tcp": 6, "udp": 17, "icmp6": 58}

func newTrace() *cobra.Command {
	var c client
	var r sluicev1.TraceRequest
	var proto, packet, file string
	cmd := &cobra.Command{
		Use:   "trace [SOURCE DESTINATION]",
		Short: "Say why a packet would go where: every step and the verdict",
		Long: `Run a packet through a copy of the XDP program and of a worker, over the state in
force, and say what each step finds out. Nothing live is touched: no packet leaves,
no session, neighbour or counter changes.

The packet is made of the flags, or given whole with --hex or --file: an Ethernet
frame with --port, an inner IP packet with --vpc.`,
		Example: `  sluice trace --vpc red 10.1.1.11 10.2.1.11
  sluice trace --vpc red --from-peer bergen-1 --proto tcp --dport 443 10.2.1.11 10.1.1.11
  sluice trace --port site0 --file frame.pcap`,
		GroupID: groupRead,
		Args:    cobra.RangeArgs(0, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if r.Packet, err = tracedPacket(packet, file); err != nil {
				return err
			}
			switch {
			case len(args) == 2:
				r.Source, r.Destination = args[0], args[1]
			case len(args) == 1 || r.Packet == nil:
				return usageError{errors.New("name a source and a destination, or give a packet with --hex or --file")}
			}
			if proto != "" {
				var known bool
				if r.Protocol, known = protocols[proto]; !known {
					if _, err := fmt.Sscanf(proto, "%d", &r.Protocol); err != nil || r.Protocol > 255 {
						return usageError{fmt.Errorf("--proto %q: use tcp, udp, icmp, icmp6 or a number up to 255", proto)}
					}
				}
			}
			answer, err := c.dial().Trace(cmd.Context(), &r)
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), answer, func(w io.Writer) error { return traceTable(answer).write(w) })
		},
	}
	c.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&r.Vpc, "vpc", "", "the VPC of the inner packet")
	f.StringVar(&r.Peer, "from-peer", "", "it comes from this peer, not from the site")
	f.StringVar(&r.Port, "port", "", "the port that it comes in through")
	f.StringVar(&r.Vtep, "vtep", "", "the VTEP that sends it, in an overlay")
	f.StringVar(&proto, "proto", "", "tcp, udp (default), icmp, icmp6 or a number")
	f.Uint32Var(&r.SourcePort, "sport", 0, "source port")
	f.Uint32Var(&r.DestinationPort, "dport", 0, "destination port")
	f.Uint32Var(&r.Length, "length", 0, "length of the IP packet")
	f.Uint32Var(&r.Ttl, "ttl", 0, "TTL or hop limit; 64 by default")
	f.StringVar(&packet, "hex", "", "the packet in hexadecimal")
	f.StringVar(&file, "file", "", "a pcap file whose first packet it is")
	return cmd
}

// tracedPacket reads the packet, if one is given.
func tracedPacket(text, file string) ([]byte, error) {
	switch {
	case text != "" && file != "":
		return nil, usageError{errors.New("--hex and --file both give a packet: use one")}
	case text != "":
		b, err := hex.DecodeString(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ':' }), ""))
		if err != nil {
			return nil, usageError{fmt.Errorf("--hex: %w", err)}
		}
		return b, nil
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r, err := pcapgo.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		b, _, err := r.ReadPacketData()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		return b, nil
	}
	return nil, nil
}

func traceTable(r *sluicev1.TraceResponse) *table {
	t := newTable("STEP", "")
	for _, s := range r.GetSteps() {
		t.add(s.GetStage(), s.GetText())
	}
	return t
}
