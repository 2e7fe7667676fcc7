package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/controlplane/config"
)

// captureCommand is the flags of `sluice capture`.
type captureCommand struct {
	socket, file, vpc string
	stages            []string
	packets           uint64
	megabytes         uint64
	snapLength        uint32
	duration          time.Duration
}

func newCapture() *cobra.Command {
	var c captureCommand
	cmd := &cobra.Command{
		Use:   "capture [FILTER...]",
		Short: "Copy packets at any stage of their way into a pcapng file",
		Long: `Copy packets at stages of their way, as pcapng with an interface for each stage
and port:

  site-in   as received from the site
  wan-in    as received from peers, sealed
  plain     the inner packet, before it is sealed or after it was opened
  sealed    as sent to peers
  to-site   as sent to the site
  dropped   with the verdict as the packet's comment

A filter is in the syntax of pcap-filter(7), compiled by libpcap; it looks at the packet as it is at the stage. With --vpc, packets are left
out that are not known to belong to it, so site-in and wan-in are empty. Times are
those of a worker's batch. Wireshark and tshark read the whole file; tcpdump reads
files with one link type only: the plain stage alone, or those with Ethernet. The gateway logs who captured what.`,
		Example: `  sluice capture -w out.pcapng --duration 10s
  sluice capture --stage plain --vpc red host 10.1.1.11 and icmp | tcpdump -nr -
  sluice capture --stage dropped -c 100 -w dropped.pcapng`,
		GroupID: groupRead,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), strings.Join(args, " "))
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.socket, "socket", config.DefaultSocket, "the gateway's socket")
	f.StringVarP(&c.file, "write", "w", "-", "file to write; - is standard output")
	f.StringSliceVarP(&c.stages, "stage", "s", nil, "stages, separated by commas; all by default")
	f.StringVar(&c.vpc, "vpc", "", "only packets known to belong to this VPC")
	f.Uint64VarP(&c.packets, "count", "c", 0, "end after this many packets")
	f.Uint64Var(&c.megabytes, "size", 0, "end after this many MiB of packets")
	f.DurationVar(&c.duration, "duration", 0, "end after this time")
	f.Uint32Var(&c.snapLength, "snaplen", 0, "bytes kept of each packet; 2048 by default")
	return cmd
}

// captureStages returns the stages by their names.
func captureStages(names []string) ([]sluicev1.CaptureStage, error) {
	var known []string
	byName := make(map[string]sluicev1.CaptureStage)
	for s := sluicev1.CaptureStage(1); ; s++ {
		if _, ok := sluicev1.CaptureStage_name[int32(s)]; !ok {
			break
		}
		byName[stageWord(s)] = s
		known = append(known, stageWord(s))
	}
	var stages []sluicev1.CaptureStage
	for _, name := range names {
		s, ok := byName[name]
		if !ok {
			return nil, usageError{fmt.Errorf("--stage %q: use %s", name, strings.Join(known, ", "))}
		}
		stages = append(stages, s)
	}
	return stages, nil
}

func stageWord(s sluicev1.CaptureStage) string { return strings.ReplaceAll(api.Word(s), "_", "-") }

func (c *captureCommand) run(ctx context.Context, out, errs io.Writer, filter string) (err error) {
	stages, err := captureStages(c.stages)
	if err != nil {
		return err
	}
	request := &sluicev1.CaptureRequest{Stages: stages, Vpc: c.vpc, SnapLength: c.snapLength, MaxPackets: c.packets, MaxBytes: c.megabytes << 20, Filter: filter}
	if c.duration > 0 {
		request.Duration = durationpb.New(c.duration)
	}
	if filter != "" {
		if request.EthernetProgram, request.IpProgram, err = compileFilter(ctx, filter); err != nil {
			return err
		}
	}
	if f, ok := out.(*os.File); ok && c.file == "-" && isTerminal(f) {
		return usageError{errors.New("will not write pcapng to a terminal: use -w FILE, or pipe into tcpdump -nr - or wireshark -ki -")}
	}
	gateway := api.Dial(c.socket)
	status, err := gateway.Status(ctx, &sluicev1.StatusRequest{}) // says in words when there is no gateway
	if err != nil {
		return err
	}
	stream, err := gateway.Capture(ctx, request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	if !stream.Receive() { // the taps are in place, or it is refused: before a file is touched
		return captureEnd(ctx, stream.Err())
	}
	if c.file != "-" {
		file, e := os.OpenFile(c.file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // it may hold what was sealed
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out = file
	}
	w := newCaptureWriter(out, status, filter)
	fmt.Fprintln(errs, "capturing")
	lost := uint64(0)
	for stream.Receive() {
		lost = stream.Msg().GetLost()
		for _, p := range stream.Msg().GetPackets() {
			if err := w.write(p); err != nil {
				return err
			}
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
	if err := w.end(); err != nil {
		return err
	}
	fmt.Fprintf(errs, "%s captured, %d lost\n", count(w.packets, "packet"), lost)
	return captureEnd(ctx, stream.Err())
}

// captureEnd is what is wrong with the end of a capture: not that it was interrupted.
func captureEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && slices.Contains([]connect.Code{connect.CodeCanceled, connect.CodeUnknown}, connect.CodeOf(err)) {
		return nil
	}
	return err
}
