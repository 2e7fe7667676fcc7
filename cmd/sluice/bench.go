package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/pair"
)

const (
	// benchPort is where `sluice bench serve` listens, TCP and UDP.
	benchPort = "7411"
	// tokenVariable holds the token of a client: other users can read arguments, but not the environment.
	tokenVariable = "SLUICE_BENCH_TOKEN"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the path between two of your own hosts",
		Long: `Measure the path between two of your own hosts: the path's MTU, round trips, the
highest UDP rates with no and with 0.5 % loss, delay variation and reordering below
them, and TCP goodput. One host serves, the other one runs:

  far$  sluice bench serve --token-file token     # makes the token
  near$ sluice bench run --to 172.16.2.10 --token-file token`,
		GroupID: groupLocal,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchServe(), newBenchRun())
	return cmd
}

func newBenchServe() *cobra.Command {
	var at, tokenFile string
	limits := pair.DefaultLimits()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Be the far end of measurements, until interrupted",
		Long: `Be the far end of measurements, until interrupted. One port is used, TCP and UDP;
UDP only while a client is measuring. Only who knows the token can make the server
send, and only to himself. Without --token-file a token is made and printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := limits.Validate(); err != nil {
				return usageError{errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))}
			}
			token, err := serverToken(cmd, tokenFile)
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", at)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			log.Info("bench serve", "listen", l.Addr().String())
			s := &pair.Server{Token: token, Limits: limits, Program: buildVersion(), Log: log}
			return s.Serve(cmd.Context(), l)
		},
	}
	f := cmd.Flags()
	f.StringVar(&at, "listen", ":"+benchPort, "`address` and port to listen on")
	f.StringVar(&tokenFile, "token-file", "", "read the token from this `file`; made if there is none")
	f.IntVar(&limits.PacketRate, "max-rate", limits.PacketRate, "packets per `second` that a client may have sent")
	f.Int64Var(&limits.BitRate, "max-bits", limits.BitRate, "bits per `second` that a client may have sent")
	f.DurationVar(&limits.Trial, "max-trial", limits.Trial, "longest time of one trial")
	f.DurationVar(&limits.Session, "max-session", limits.Session, "longest stay of a client")
	return cmd
}

// serverToken reads the token, or makes one.
func serverToken(cmd *cobra.Command, file string) (pair.Token, error) {
	if file == "" {
		t := pair.NewToken()
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s=%s\n", tokenVariable, t.Reveal())
		return t, err
	}
	t, err := pair.ReadToken(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	t = pair.NewToken()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return t, fmt.Errorf("write token: %w", err)
	}
	_, err = fmt.Fprintln(f, t.Reveal())
	return t, errors.Join(err, f.Close())
}

// clientToken reads the token from a file, or from the environment.
func clientToken(file string) (pair.Token, error) {
	if file != "" {
		return pair.ReadToken(file)
	}
	text, ok := os.LookupEnv(tokenVariable)
	if !ok {
		return pair.Token{}, usageError{fmt.Errorf("no token: name the server's with --token-file, or set %s", tokenVariable)}
	}
	t, err := pair.ParseToken([]byte(text))
	if err != nil {
		return t, usageError{fmt.Errorf("%s: %w", tokenVariable, err)}
	}
	return t, nil
}

func newBenchRun() *cobra.Command {
	var to, tokenFile, file string
	var quick bool
	var o pair.Options
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Measure the path to a host that serves",
		Long: `Measure the path to a host on which "sluice bench serve" runs, in about five minutes
(--quick: one). "up" is from here to there. The token comes from --token-file or
from the variable SLUICE_BENCH_TOKEN.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usageError{errors.New("where to? --to names the host that serves")}
			}
			if err := o.Validate(); err != nil {
				return usageError{errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))}
			}
			token, err := clientToken(tokenFile)
			if err != nil {
				return err
			}
			if quick && !cmd.Flags().Changed("trial") {
				o.Trial = 200 * time.Millisecond
			}
			o.Program = buildVersion()
			bar := newBenchBar(cmd.ErrOrStderr())
			o.Progress = bar.set
			r, failed := pair.Run(cmd.Context(), withBenchPort(to), token, o)
			bar.end()
			if r.Schema == 0 {
				return failed
			}
			// What was measured before an error is shown, too.
			return errors.Join(failed, writeBenchFile(file, r), writeBench(cmd.OutOrStdout(), r))
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "`host` or host:port that serves (port "+benchPort+")")
	f.StringVar(&tokenFile, "token-file", "", "read the server's token from this `file`")
	f.IntSliceVar(&o.Sizes, "sizes", nil, "`bytes` of IP packets (default: the least, 512, and what the path carries)")
	f.StringSliceVar(&o.Directions, "directions", nil, "up, down (default: both)")
	f.StringSliceVar(&o.Parts, "only", nil, strings.Join(pair.Parts(), ", ")+" (default: all)")
	f.IntVar(&o.Flows, "flows", 4, "UDP ports to send from, each a flow of its own")
	f.IntVar(&o.Streams, "streams", 1, "TCP connections at the same time")
	f.DurationVar(&o.Trial, "trial", time.Second, "how long each rate is tried")
	f.Float64Var(&o.MaxRate, "max-rate", 0, "packets per `second` at most (default: what the server allows)")
	f.BoolVar(&quick, "quick", false, "trials of 200 ms: a first look")
	f.StringVar(&file, "json", "", "write the result to this `file`, as JSON")
	return cmd
}

// withBenchPort adds the usual port to a host without one.
func withBenchPort(to string) string {
	if _, _, err := net.SplitHostPort(to); err == nil {
		return to
	}
	return net.JoinHostPort(strings.Trim(to, "[]"), benchPort)
}

// benchBar shows progress on a terminal, and nothing elsewhere.
type benchBar struct {
	out io.Writer
	bar *progressbar.ProgressBar
}

func newBenchBar(out io.Writer) *benchBar {
	if f, ok := out.(*os.File); !ok || !isTerminal(f) {
		return &benchBar{}
	}
	return &benchBar{out: out}
}

func (b *benchBar) set(done, of int, what string) {
	if b.out == nil {
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions(of, progressbar.OptionSetWriter(b.out), progressbar.OptionSetWidth(30),
			progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
	}
	b.bar.Describe(fmt.Sprintf("%-28s", what))
	_ = b.bar.Set(done) // a bar that cannot be drawn is no reason to stop
}

func (b *benchBar) end() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}

func writeBenchFile(path string, r pair.Result) error {
	if path == "" {
		return nil
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return os.WriteFile(path, text.Bytes(), 0o644)
}

// writeBench prints the tables.
func writeBench(out io.Writer, r pair.Result) error {
	fmt.Fprintf(out, "to %s   path MTU %d B   %d flows   trials of %v\n", r.To, r.MTU, r.Flows, r.Trial)
	fmt.Fprintf(out, "here   %s, %s, %d CPUs\nthere  %s, %s, %d CPUs\n", r.Local.Program, r.Local.Kernel, r.Local.CPUs, r.Remote.Program, r.Remote.Kernel, r.Remote.CPUs)
	if x := r.RTT; x != nil {
		fmt.Fprintf(out, "\nround trips of %d B, idle: %d of %d came back; µs\n", x.Size, x.Received, x.Sent)
		t := newTable("", ">p50", ">p90", ">p99", ">p99.9")
		t.add(append([]string{"round trip"}, micros(x.Trip)...)...)
		t.add(append([]string{"variation up"}, micros(x.Up)...)...)
		t.add(append([]string{"variation down"}, micros(x.Down)...)...)
		if err := t.write(out); err != nil {
			return err
		}
	}
	if err := writeBenchRates(out, r.UDP); err != nil {
		return err
	}
	if len(r.TCP) > 0 {
		fmt.Fprintln(out)
		t := newTable("tcp", ">connections", ">goodput Gb/s", ">retransmitted")
		for _, x := range r.TCP {
			t.add(x.Direction, fmt.Sprint(x.Streams), fmt.Sprintf("%.3f", x.Bits/1e9), fmt.Sprint(x.Retransmitted))
		}
		if err := t.write(out); err != nil {
			return err
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(out, "note: %s\n", note)
	}
	return nil
}

func writeBenchRates(out io.Writer, all []pair.UDP) error {
	if len(all) == 0 {
		return nil
	}
	fmt.Fprintln(out, "\nudp: highest rates, and what bounds them (NDR: nothing lost; PDR: at most 0.5 %; ?: not confirmed)")
	rates := newTable("way", ">size B", ">NDR kpps", ">Gb/s", ">PDR kpps", ">Gb/s", "bound by")
	for _, u := range all {
		gigabits := func(r method.Rate) string { return fmt.Sprintf("%.3f", r.PPS*float64(u.Size)*8/1e9) }
		rates.add(u.Direction, fmt.Sprint(u.Size), kpps(u.NDR), gigabits(u.NDR), kpps(u.PDR), gigabits(u.PDR), string(u.Bound))
	}
	if err := rates.write(out); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nudp below the NDR: loss, order, delay variation above the least delay, round trips beside it; µs")
	loads := newTable("way", ">size B", ">load", ">kpps", ">lost %", ">reordered", ">p50", ">p90", ">p99", ">p99.9", ">rtt p50", ">rtt p90")
	for _, u := range all {
		for _, l := range u.Loads {
			row := []string{u.Direction, fmt.Sprint(u.Size), fmt.Sprintf("%.0f %%", 100*l.Share), fmt.Sprintf("%.1f", l.PPS/1e3),
				fmt.Sprintf("%.3f", 100*l.Lost()), fmt.Sprint(l.Reordered)}
			row = append(row, micros(l.Variation)...)
			loads.add(append(row, micros(l.Trip)[:2]...)...)
		}
	}
	return loads.write(out)
}

// micros are p50 to p99.9; those that there were too few packets for are dashes.
func micros(quantiles []method.Quantile) []string {
	cells := make([]string, 4)
	for i := range cells {
		cells[i] = "-"
		if i < len(quantiles) {
			cells[i] = fmt.Sprintf("%.0f", float64(quantiles[i].At)/float64(time.Microsecond))
		}
	}
	return cells
}

func kpps(r method.Rate) string {
	switch {
	case r.PPS == 0:
		return "none"
	case !r.Confirmed:
		return fmt.Sprintf("%.1f?", r.PPS/1e3)
	}
	return fmt.Sprintf("%.1f", r.PPS/1e3)
}
