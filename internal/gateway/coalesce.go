package gateway

import "time"

// Changes of routes are taken at once as long as there is time for it: what takes a while (a whole table comes) is followed by
// a rest of the same length, in which more of them gather. So a single flap never waits, and a load of 100,000 costs
// half of a core at most, in fewer and larger steps.

const (
	// minRest: it is not worth while to set a timer for less.
	minRest = time.Millisecond
	// maxRest bounds what a router's update waits after another step took very long.
	maxRest = 250 * time.Millisecond
)

// pace says when the next step may be. Owned by the assembly.
type pace struct {
	next  time.Time
	later <-chan time.Time // the next step is due then
}

// wait says whether a step has to wait; later tells when it is due.
func (p *pace) wait(now time.Time) bool {
	if p.later != nil {
		return true
	}
	rest := p.next.Sub(now)
	if rest < minRest {
		return false
	}
	p.later = time.After(rest)
	return true
}

// stepped notes that a step was made.
func (p *pace) stepped(began, ended time.Time) {
	p.later = nil
	p.next = ended.Add(min(ended.Sub(began), maxRest))
}

// routesChanged brings routes into force that have changed, now or soon.
func (g *Gateway) routesChanged() {
	if !g.bgp.pace.wait(time.Now()) {
		g.takeRoutes()
	}
}
