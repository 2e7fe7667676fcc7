package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/traffic"
)

// errDirection is of what needs both gateways.
var errDirection = fmt.Errorf("%w: both gateways are needed", method.ErrUnavailable)

const (
	// sealAhead bounds the sealed packets of one trial: their sealing takes as long as
	// half a second, their memory a few hundred MiB.
	sealAhead = 500_000
	// sealedFlood is the rate that stands for a flood: each packet can be sent only once,
	// so what a full queue refuses is wasted. It is more than a core here can open.
	sealedFlood = 1_500_000
	// sessionAge is when we make a new session: well before it ends, and not at once, as
	// handshakes that follow each other too fast are refused.
	sessionAge = 90 * time.Second
)

// shake makes the sessions with the gateway under test. They live for three minutes
// (REJECT_AFTER_TIME); a gateway that sends asks for a new one by itself, and gets it.
func (r *Run) shake(ctx context.Context) error {
	tested := 0
	if r.Lab.Scenario.Direction == method.Decrypt {
		tested = 1
	}
	host := r.Lab.Ends[1-tested].Gateway
	r.shaken = time.Now()
	for _, p := range r.Lab.Peers(tested) {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		peer, err := traffic.NewPeer(ctx, traffic.PeerOptions{
			Host: host, Local: p.Endpoint, Remote: r.Lab.Peers(1 - tested)[0].Endpoint,
			PrivateKey: p.private, PublicKey: r.Lab.Peers(1 - tested)[0].Key,
		})
		cancel()
		if err != nil {
			return err
		}
		r.peers = append(r.peers, peer)
	}
	return nil
}

// offerSealed makes a session and seals packets, offers them, and counts what comes out.
func (r *Run) offerSealed(ctx context.Context, rate float64, d time.Duration) (_ method.Counts, err error) {
	if err := r.detach(); err != nil {
		return method.Counts{}, err
	}
	if time.Since(r.shaken) > sessionAge {
		if err := r.release(); err != nil {
			return method.Counts{}, err
		}
		if err := r.shake(ctx); err != nil {
			return method.Counts{}, err
		}
	}
	if rate == 0 {
		rate = sealedFlood
	}
	// No more than the trial needs, and a few for a burst at its end.
	n := min(sealAhead, int(rate*d.Seconds())+1000)
	if r.frames, err = r.peers[0].Seal(traffic.SealOptions{
		Flow: r.wireGuard.Sealed(r.Lab), SrcMAC: [6]byte(WANMAC(1)), DstMAC: [6]byte(WANMAC(2)), Count: n,
	}); err != nil {
		return method.Counts{}, err
	}
	if r.sink, err = traffic.NewSink(traffic.SinkOptions{Host: r.target.Host, Link: r.target.Name, Sent: r.frames}); err != nil {
		return method.Counts{}, err
	}
	r.generator, err = newSources(1, r.Lab.Scenario.GeneratorCPU, traffic.Options{
		Host: r.source.Host, Link: r.source.Name, Frames: r.frames, Rate: rate,
	})
	if err != nil {
		return method.Counts{}, err
	}
	counts, err := r.offer(ctx, d)
	return counts, errors.Join(err, r.detach())
}
