package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicegw/sluice/bench/method"
)

// tcpPort is iperf3's.
const tcpPort = "5201"

// TCP carries one TCP connection by iperf3 from the first end to the second. Both
// ends of it run on the generator's CPU.
func (r *Run) TCP(ctx context.Context, d time.Duration) (bits float64, usage method.Usage, err error) {
	if r.Lab.Scenario.Direction != method.Through {
		return 0, usage, fmt.Errorf("tcp: %w", errDirection)
	}
	// The sink would slow down what is not its own.
	if err := r.detach(); err != nil {
		return 0, usage, err
	}
	if !r.Lab.Scenario.Native {
		// The generator is not at work: nothing needs receive offload now.
		for _, site := range r.Lab.Ends {
			if err := errors.Join(Ethtool(ctx, site.Inside, "gro", false), Ethtool(ctx, site.WAN, "gro", false)); err != nil {
				return 0, usage, err
			}
		}
		if _, ok := r.Gateways.(Bypass); !ok { // its programs go on polling
			r.threads = nil
		}
		defer func() { err = errors.Join(err, r.poll(ctx)) }()
	}
	cpu := strconv.Itoa(r.Lab.Scenario.GeneratorCPU)
	server := r.Lab.Ends[1].End.Command(context.WithoutCancel(ctx), "taskset", "-c", cpu, "iperf3", "-s", "-1", "-p", tcpPort)
	if err := server.Start(); err != nil {
		return 0, usage, err
	}
	defer server.Stop()
	seconds := strconv.FormatFloat(max(d.Seconds(), 1), 'f', 0, 64)
	meter, err := method.StartMeter(append(slices.Clone(r.threads), r.PIDs()...))
	if err != nil {
		return 0, usage, err
	}
	err = Eventually(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, d+10*time.Second)
		defer cancel()
		if meter, err = method.StartMeter(append(slices.Clone(r.threads), r.PIDs()...)); err != nil {
			return err
		}
		client := r.Lab.Ends[0].End.Command(ctx, "taskset", "-c", cpu, "iperf3",
			"-c", Inner(2, r.Lab.Scenario.Attachment).String(), "-p", tcpPort, "-t", seconds, "-J")
		out, failed := client.Output()
		if bits, err = parseIperf(out); err == nil || strings.Contains(err.Error(), "refused") {
			return err // the server may not listen yet
		}
		return errors.Join(errEnded, err, failed)
	})
	if err != nil {
		return 0, usage, fmt.Errorf("tcp: %w", err)
	}
	usage, err = meter.Stop()
	return bits, usage, err
}

// parseIperf reads what the receiver says in iperf3's JSON.
func parseIperf(text []byte) (float64, error) {
	var report struct {
		Error string
		End   struct {
			SumReceived struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return 0, fmt.Errorf("parse iperf3's report: %w", err)
	}
	if report.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", report.Error)
	}
	if report.End.SumReceived.BitsPerSecond <= 0 {
		return 0, errors.New("iperf3: nothing was received")
	}
	return report.End.SumReceived.BitsPerSecond, nil
}
