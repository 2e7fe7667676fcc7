package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// countersCommand is the flags of `sluice counters`.
type countersCommand struct {
	client
	all, drops, watch bool
	interval          time.Duration
}

func newCounters() *cobra.Command {
	var c countersCommand
	cmd := &cobra.Command{
		Use:   "counters [COMPONENT]",
		Short: "List what was counted: every packet has one verdict",
		Long: `List the counters that are not zero, with what they mean; --json and --all list
all. A component is one of xdp, afxdp, relay, wireguard, neigh and gateway.`,
		GroupID: groupRead,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.interval < minInterval {
				return usageError{fmt.Errorf("--interval %s: must be at least %s", c.interval, minInterval)}
			}
			request := &sluicev1.CountersRequest{}
			if len(args) > 0 {
				request.Component = args[0]
			}
			return c.run(cmd.Context(), cmd.OutOrStdout(), request)
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVarP(&c.all, "all", "a", false, "also counters that are zero")
	cmd.Flags().BoolVar(&c.drops, "drops", false, "only counters of dropped packets")
	cmd.Flags().BoolVarP(&c.watch, "watch", "w", false, "again and again, with rates; only what changed, unless --all")
	cmd.Flags().DurationVar(&c.interval, "interval", time.Second, "how often, with --watch")
	return cmd
}

// minInterval keeps a watcher from being a load.
const minInterval = 100 * time.Millisecond

// run prints the counters once, or until ctx ends.
func (c *countersCommand) run(ctx context.Context, w io.Writer, request *sluicev1.CountersRequest) error {
	gateway := c.dial()
	var before *sluicev1.CountersResponse
	for {
		now, err := gateway.Counters(ctx, request)
		if err != nil {
			if c.watch && ctx.Err() != nil {
				return nil // interrupted: that is how a watch ends
			}
			return err
		}
		if c.drops {
			now.Counters = onlyDrops(now.GetCounters())
		}
		if err := c.write(w, before, now); err != nil || !c.watch {
			return err
		}
		before = now
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.interval):
		}
	}
}

func onlyDrops(all []*sluicev1.Counter) []*sluicev1.Counter {
	var drops []*sluicev1.Counter
	for _, c := range all {
		if c.GetDrop() {
			drops = append(drops, c)
		}
	}
	return drops
}

func (c *countersCommand) write(w io.Writer, before, now *sluicev1.CountersResponse) error {
	switch {
	case c.json && c.watch: // one line each
		text, err := api.JSON(now)
		if err != nil {
			return err
		}
		_, err = w.Write(append(text, '\n'))
		return err
	case before == nil:
		return c.print(w, now, func(w io.Writer) error { return counterTable(now, c.all).write(w) })
	}
	t := rateTable(before, now, c.all)
	if _, err := fmt.Fprintf(w, "\n%s\n", now.GetTime().AsTime().Local().Format(time.TimeOnly)); err != nil {
		return err
	}
	return t.write(w)
}

func counterTable(r *sluicev1.CountersResponse, all bool) *table {
	t := newTable("COMPONENT", "COUNTER", "WHERE", ">VALUE", "UNIT", "MEANING")
	for _, c := range r.GetCounters() {
		if all || c.GetValue() != 0 {
			t.add(c.GetComponent(), c.GetName(), where(c), fmt.Sprint(c.GetValue()), api.Word(c.GetUnit()), c.GetExplanation())
		}
	}
	return t
}

// rateTable shows what changed between two readings.
func rateTable(before, now *sluicev1.CountersResponse, all bool) *table {
	last := map[string]uint64{}
	for _, c := range before.GetCounters() {
		last[counterKey(c)] = c.GetValue()
	}
	seconds := now.GetTime().AsTime().Sub(before.GetTime().AsTime()).Seconds()
	t := newTable("COMPONENT", "COUNTER", "WHERE", ">VALUE", ">PER SECOND", "UNIT")
	for _, c := range now.GetCounters() {
		was := last[counterKey(c)]
		if !all && c.GetValue() == was {
			continue
		}
		rate := "-"
		if c.GetUnit() != sluicev1.CounterUnit_COUNTER_UNIT_GAUGE && c.GetValue() >= was && seconds > 0 {
			rate = fmt.Sprint(uint64(math.Round(float64(c.GetValue()-was) / seconds)))
		}
		t.add(c.GetComponent(), c.GetName(), where(c), fmt.Sprint(c.GetValue()), rate, api.Word(c.GetUnit()))
	}
	return t
}

func counterKey(c *sluicev1.Counter) string {
	return c.GetComponent() + "/" + c.GetName() + "/" + where(c)
}

// where names the worker and the port that a counter belongs to.
func where(c *sluicev1.Counter) string {
	worker := ""
	if c.Worker != nil {
		worker = fmt.Sprintf("worker %d", c.GetWorker())
	}
	switch {
	case worker != "" && c.GetPort() != "":
		return c.GetPort() + ", " + worker
	case worker != "":
		return worker
	}
	return dash(c.GetPort())
}
