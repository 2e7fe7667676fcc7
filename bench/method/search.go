package method

import (
	"context"
	"fmt"
	"math"
	"time"
)

// Search says how a rate without (much) loss is looked for.
type Search struct {
	// Loss that is allowed: 0 for the non-drop rate (NDR), 0.005 for the partial
	// drop rate (PDR) of RFC 9004's kin.
	Loss float64
	// Width at which the search ends, as a share of the rate; 0 means 0.02: finer
	// than that, a virtual machine only measures its neighbours.
	Width float64
	// Confirm is how many trials in a row have to pass at the result; 0 means 3.
	Confirm int
	// Duration of a trial; 0 means 1 s.
	Duration time.Duration
	// Trials is the most that are made; 0 means 40.
	Trials int
	// Max is where to begin; 0: what arrives of a flood.
	Max float64
}

// Rate is the result of a search.
type Rate struct {
	PPS float64 `json:"pps"`
	// Loss that was allowed.
	Loss float64 `json:"loss"`
	// Trials that were made, and how many of them the machine disturbed: those
	// were made again and decide nothing.
	Trials    int `json:"trials"`
	Disturbed int `json:"disturbed"`
	// Confirmed says that the result passed as often as asked for. If not, the
	// search ran out of trials, and the rate is the best that passed once.
	Confirmed bool `json:"confirmed"`
}

// maxSteal is the share of a window that the hypervisor may take: with more, zero loss
// measures the hypervisor.
const maxSteal = 0.005

// Disturbed says what spoilt a window, or nothing.
func (c Counts) Disturbed() string {
	if steal := float64(c.Usage.Steal) / float64(max(c.Usage.Wall, 1)); steal > maxSteal {
		return fmt.Sprintf("the hypervisor took %.1f %%", 100*steal)
	}
	return ""
}

// Find looks for the highest rate that passes, by bisection between what passed and what did not.
func (s Search) Find(ctx context.Context, trial Trial) (r Rate, err error) {
	if s.Width == 0 {
		s.Width = 0.02
	}
	if s.Confirm == 0 {
		s.Confirm = 3
	}
	if s.Duration == 0 {
		s.Duration = time.Second
	}
	if s.Trials == 0 {
		s.Trials = 40
	}
	r.Loss = s.Loss
	top := s.Max
	if top == 0 {
		c, err := trial(ctx, 0, s.Duration)
		if err != nil {
			return r, fmt.Errorf("search rate: %w", err)
		}
		r.Trials++
		// A flood can make a contestant slower than its best (livelock), so begin above.
		top = min(2*c.PPS(), float64(c.Offered)/c.Window.Seconds())
		if top == 0 {
			return r, fmt.Errorf("search rate: nothing arrived of a flood of %d packets", c.Offered)
		}
	}
	low, high, passed := 0.0, top*(1+s.Width), 0
	for r.Trials < s.Trials {
		rate := (low + high) / 2
		if low > 0 && high <= low*(1+s.Width) {
			if passed >= s.Confirm {
				r.Confirmed = true
				break
			}
			rate = low
		} else if high < 1 {
			return r, fmt.Errorf("search rate: not even %.1f packets per second pass", high)
		}
		c, err := trial(ctx, rate, s.Duration)
		if err != nil {
			return r, fmt.Errorf("search rate at %.0f pps: %w", rate, err)
		}
		r.Trials++
		switch ok := c.Lost() <= s.Loss && c.Offered > 0; {
		case !ok && c.Disturbed() != "":
			r.Disturbed++
		case ok && rate == low:
			passed++
		case ok:
			low, passed = rate, 1
		case rate == low: // what passed once was luck
			high, low, passed = low, low*(1-4*s.Width), 0
		default:
			high = rate
		}
	}
	if r.PPS = low; low == 0 {
		r.PPS = math.NaN()
		return r, fmt.Errorf("search rate: no trial of %d passed", r.Trials)
	}
	return r, nil
}
