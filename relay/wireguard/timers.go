package wireguard

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// timers are a peer's timers as far as workers touch them. There is no timer
// object behind any of them: workers note Clock values, once per group of
// packets, and the engine compares them on its tick.
type timers struct {
	// handshakeDue: we have sent data and heard nothing since; begin a new
	// handshake then. 0: off.
	handshakeDue atomic.Int64
	// keepaliveDue: we have received data and sent nothing since; send a
	// keepalive then. 0: off.
	keepaliveDue atomic.Int64
	// another: more data came while keepaliveDue was running.
	another atomic.Bool
	// last is when an authenticated message last went either way, to lastPrecision.
	last atomic.Int64
}

// lastPrecision is far below what is compared with last, and long enough that a peer's batches in
// quick succession do not each pay for the store.
const lastPrecision = int64(time.Millisecond)

// passed notes the time of an authenticated message.
func (t *timers) passed(now int64) {
	if now-t.last.Load() >= lastPrecision {
		t.last.Store(now)
	}
}

// sent notes that authenticated messages were sent. data: not only keepalives
// and handshakes.
func (t *timers) sent(now int64, data bool) {
	t.passed(now)
	if t.keepaliveDue.Load() != 0 {
		t.keepaliveDue.Store(0)
	}
	if data && t.handshakeDue.Load() == 0 {
		t.handshakeDue.Store(now + keepaliveAfter + rekeyTimeout)
	}
}

// received notes that authenticated messages came.
func (t *timers) received(now int64, data bool) {
	t.passed(now)
	if t.handshakeDue.Load() != 0 {
		t.handshakeDue.Store(0)
	}
	if !data {
		return
	}
	if t.keepaliveDue.Load() == 0 {
		t.keepaliveDue.Store(now + keepaliveAfter)
	} else if !t.another.Load() {
		t.another.Store(true)
	}
}

// keepaliveNow makes a persistent keepalive due on the next tick.
func (p *Peer) keepaliveNow() {
	p.timers.last.Store(p.dev.Clock() - int64(p.config.PersistentKeepalive))
}

// tickPeer runs a peer's timers. The caller holds d.mu.
func (d *Device) tickPeer(p *Peer, now int64) {
	if at := p.handshakeAt.Load(); at != p.reported {
		level := slog.LevelDebug // a rekey
		if p.reported == 0 || at-p.reported >= rejectAfterTime {
			level = slog.LevelInfo
		}
		p.reported = at
		d.log.Log(context.Background(), level, "session established", "peer", p.public, "endpoint", p.Endpoint().Remote)
	}
	if i := p.initiation; i != nil && now >= i.sentAt+rekeyTimeout+p.jitter {
		d.retry(p, now)
	}
	if p.request.Load() == requestWorking && p.initiation == nil && p.Endpoint().Remote.IsValid() {
		// It waited for an endpoint, or for an initiation that was dropped
		// because the other side's came first.
		p.request.Store(requestAsked)
	}
	if p.request.Load() == requestAsked {
		d.begin(p, now)
	}
	if due := p.timers.handshakeDue.Load(); due != 0 && now >= due+p.jitter {
		p.timers.handshakeDue.Store(0)
		d.log.Info("peer is silent, beginning a new handshake", "peer", p.public)
		p.forgetLocal()
		d.begin(p, now)
	}
	if due := p.timers.keepaliveDue.Load(); due != 0 && now >= due {
		p.timers.keepaliveDue.Store(0)
		d.sendKeepalive(p, now)
		if p.timers.another.Swap(false) {
			p.timers.keepaliveDue.Store(now + keepaliveAfter)
		}
	}
	if every := int64(p.config.PersistentKeepalive); every > 0 && now-p.timers.last.Load() >= every {
		p.timers.last.Store(now) // also when there is no session to send it with
		d.sendKeepalive(p, now)
	}
	p.expireRetired(now)
	if p.zeroAt != 0 && now >= p.zeroAt {
		d.log.Info("no new session for long, forgetting all keys", "peer", p.public)
		d.dropInitiation(p)
		p.forget()
		p.request.Store(requestIdle)
		p.zeroAt = 0
	}
}

// retry sends another initiation for one that was not answered, or gives up.
func (d *Device) retry(p *Peer, now int64) {
	switch {
	case p.handshakeAt.Load() > p.initiation.sentAt:
		// The other side's handshake has come first.
		d.dropInitiation(p)
	case now-p.attemptSince >= rekeyAttempt:
		d.log.Warn("handshake not answered, giving up", "peer", p.public, "endpoint", p.Endpoint().Remote)
		d.dropInitiation(p)
		p.timers.keepaliveDue.Store(0)
		p.request.Store(requestIdle) // the next packet makes a new attempt
		if p.zeroAt == 0 {
			p.zeroAt = now + zeroAfterTime
		}
	default:
		p.forgetLocal()
		d.initiate(p, now) // if it cannot be, the tick will see
	}
}

// begin begins a handshake unless one is under way, or we have sent a handshake
// message just now; then the request waits for a later tick.
func (d *Device) begin(p *Peer, now int64) {
	if p.initiation != nil || !p.Endpoint().Remote.IsValid() {
		// Without an endpoint the peer has to speak first. Then, or when it
		// gets one, the request is reset.
		p.request.Store(requestWorking)
		return
	}
	if d.initiate(p, now) {
		p.attemptSince = now
	} else {
		p.request.Store(requestAsked)
	}
}

// newJitter spreads the next handshake messages.
func newJitter() int64 { return rand.Int64N(rekeyJitter) }

// expireRetired kills retired sessions that can open nothing any more.
func (p *Peer) expireRetired(now int64) {
	p.keys.Lock()
	var dead [len(p.retired)]*session
	for i, s := range p.retired {
		if s != nil && now-s.created >= rejectAfterTime {
			dead[i], p.retired[i] = s, nil
		}
	}
	p.keys.Unlock()
	p.dev.bury(dead[:]...)
}
