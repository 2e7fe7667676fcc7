package wireguard

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// The engine is one goroutine. Each of its steps (a message, a wake-up, a tick)
// runs under Device.mu; the datagrams that a step makes are handed to
// Options.Send after that.

// tickEvery is the grain of all timers.
const tickEvery = 100 * time.Millisecond

// inbound is a handshake message on its way to the engine.
type inbound struct {
	from Endpoint
	size int
	buf  [device.MessageHandshakeSize]byte
}

// Run is the engine: it answers handshakes and runs the timers until ctx is
// done; then it forgets every key and returns nil. It may be called once.
func (d *Device) Run(ctx context.Context) error {
	if !d.running.CompareAndSwap(false, true) {
		return errors.New("run wireguard device: it has run already")
	}
	d.limiter.Init()
	defer d.limiter.Close()
	defer d.shutdown()
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-d.inbox:
			d.step(func(now int64) { d.handle(&m, now) })
		case <-d.wake:
			d.step(d.answerRequests)
		case <-ticker.C:
			d.step(d.tick)
		}
	}
}

// Receive hands a handshake message (types 1-3) to the engine. It copies msg,
// never blocks and does not allocate. False: the queue is full, or it is not a
// handshake message; counted either way (Counters).
func (d *Device) Receive(msg []byte, from Endpoint) bool {
	if size := handshakeSize(msg); size == 0 || size != len(msg) {
		d.counters.malformed.Add(1)
		return false
	}
	m := inbound{from: from, size: len(msg)}
	copy(m.buf[:], msg)
	select {
	case d.inbox <- m:
		return true
	default:
		d.counters.queueFull.Add(1)
		return false
	}
}

// step runs f as a step of the engine.
func (d *Device) step(f func(now int64)) {
	d.mu.Lock()
	f(d.Clock())
	d.killBuried()
	out := d.out
	d.out = nil
	d.mu.Unlock()
	for _, dg := range out {
		d.counters.sent.Add(1)
		d.send(dg)
	}
}

func (d *Device) tick(now int64) {
	for _, p := range d.peers {
		d.tickPeer(p, now)
	}
}

// answerRequests begins the handshakes that workers have asked for.
func (d *Device) answerRequests(now int64) {
	for _, p := range d.peers {
		if p.request.Load() == requestAsked {
			d.begin(p, now)
		}
	}
}

func (d *Device) shutdown() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, p := range d.peers {
		d.close(p)
	}
	d.killBuried()
	d.private.Zero()
}

// handle does what a message asks for.
func (d *Device) handle(m *inbound, now int64) {
	msg := m.buf[:m.size]
	kind := binary.LittleEndian.Uint32(msg)
	if kind == device.MessageCookieReplyType {
		d.handleCookie(msg)
		return
	}
	if !d.checker.CheckMAC1(msg) {
		d.counters.badMAC1.Add(1)
		return
	}
	if d.underLoad(now) && !d.admit(m, msg) {
		return
	}
	if kind == device.MessageInitiationType {
		d.handleInitiation(msg, &m.from, now)
	} else {
		d.handleResponse(msg, &m.from, now)
	}
}

// underLoad: messages come faster than we answer them, now or a moment ago.
func (d *Device) underLoad(now int64) bool {
	if len(d.inbox) >= cap(d.inbox)/8 {
		d.loadUntil = now + loadHold
	}
	return now < d.loadUntil
}

// admit lets a message pass under load when its sender has shown, by a cookie,
// that it is where it says it is, and is not too busy.
func (d *Device) admit(m *inbound, msg []byte) bool {
	var buf [18]byte
	source := sourceBytes(buf[:0], m.from.Remote)
	if !d.checker.CheckMAC2(msg, source) {
		reply, err := d.checker.CreateReply(msg, binary.LittleEndian.Uint32(msg[4:]), source)
		if err != nil {
			d.counters.failed.Add(1)
			d.log.Error("cookie not made", "error", err)
			return false
		}
		data, err := binary.Append(nil, binary.LittleEndian, reply)
		if err != nil { // only for a type without a fixed size
			panic(err)
		}
		to := m.from
		to.Ifindex = 0
		d.out = append(d.out, Datagram{to, data})
		d.counters.cookieReplies.Add(1)
		return false
	}
	if !d.limiter.Allow(rateKey(m.from.Remote)) {
		d.counters.rateLimited.Add(1)
		return false
	}
	return true
}

// handleCookie: the other side is under load and wants our next handshake
// message to carry this.
func (d *Device) handleCookie(msg []byte) {
	var reply device.MessageCookieReply
	if _, err := binary.Decode(msg, binary.LittleEndian, &reply); err != nil { // only for a short msg
		panic(err)
	}
	s := d.index.lookup(reply.Receiver)
	if s == nil || !s.peer.cookies.ConsumeReply(&reply) {
		d.counters.invalid.Add(1)
		return
	}
	d.counters.cookies.Add(1)
}

// handleInitiation answers message 1 as responder. The session that comes of it
// is used for sending once the initiator has confirmed it.
func (d *Device) handleInitiation(msg []byte, from *Endpoint, now int64) {
	h, public, ts, err := consume(d.private, d.public, msg[initiationNoise:len(msg)-macsSize])
	if err != nil {
		d.counters.invalid.Add(1)
		return
	}
	defer h.zero()
	p := d.peers[public]
	if p == nil {
		d.counters.unknownPeer.Add(1)
		d.log.Debug("initiation by an unknown peer", "public", public, "from", from.Remote)
		return
	}
	if !ts.After(p.newest) || p.lastConsumed != 0 && now-p.lastConsumed < initiationInterval {
		d.counters.replayed.Add(1)
		return
	}
	s := d.newSession(p)
	if s == nil {
		d.counters.failed.Add(1)
		return
	}
	reply := make([]byte, responseNoise, device.MessageResponseSize)
	binary.LittleEndian.PutUint32(reply, device.MessageResponseType)
	binary.LittleEndian.PutUint32(reply[4:], s.localIndex)
	copy(reply[8:], msg[4:8])
	reply, keys, err := h.respond(p.config.PresharedKey, reply)
	if err != nil {
		d.index.remove(s)
		d.counters.failed.Add(1)
		d.log.Error("handshake not answered", "peer", p.public, "error", err)
		return
	}
	p.newest, p.lastConsumed = ts, now
	s.start(&keys, binary.LittleEndian.Uint32(msg[4:]), false, now)
	p.expect(s)

	d.counters.initiations.Add(1)
	if p.sessionless(now) {
		p.proven(from)
	}
	d.authenticated(p, from, len(msg), now)
	to, _ := p.AnswerTo(*from)
	d.sendHandshake(p, reply, to, now)
}

// handleResponse completes a handshake that we began.
func (d *Device) handleResponse(msg []byte, from *Endpoint, now int64) {
	s := d.index.lookup(binary.LittleEndian.Uint32(msg[8:]))
	if s == nil || s.peer.initiation == nil || s.peer.initiation.session != s {
		d.counters.invalid.Add(1)
		return
	}
	p := s.peer
	keys, err := p.initiation.handshake.finish(msg[responseNoise : len(msg)-macsSize])
	if err != nil {
		d.counters.invalid.Add(1)
		return
	}
	p.initiation.handshake.zero()
	p.initiation = nil
	s.start(&keys, binary.LittleEndian.Uint32(msg[4:]), true, now)
	if p.sessionless(now) {
		p.proven(from)
	}
	p.install(s, now)

	d.counters.responses.Add(1)
	d.authenticated(p, from, len(msg), now)
	// The responder may not send before it has seen the keys in use.
	d.sendKeepalive(p, now)
}

// authenticated notes a handshake message of the peer that derived a session.
func (d *Device) authenticated(p *Peer, from *Endpoint, size int, now int64) {
	p.rx.add(1, size)
	p.moveTo(from)
	p.timers.received(now, false)
	p.zeroAt = now + zeroAfterTime
}

// initiate sends message 1. False: too soon after our last handshake message, or
// it could not be made (which is logged).
func (d *Device) initiate(p *Peer, now int64) bool {
	if p.sentLast != 0 && now-p.sentLast < rekeyTimeout {
		return false
	}
	d.dropInitiation(p)
	s := d.newSession(p)
	if s == nil {
		return false
	}
	msg := make([]byte, initiationNoise, device.MessageInitiationSize)
	binary.LittleEndian.PutUint32(msg, device.MessageInitiationType)
	binary.LittleEndian.PutUint32(msg[4:], s.localIndex)
	h, msg, err := initiate(d.private, d.public, p.public, p.config.PresharedKey, timestamp(d.now()), msg)
	if err != nil {
		d.index.remove(s)
		d.log.Error("handshake not begun", "peer", p.public, "error", err)
		return false
	}
	p.initiation = &initiation{handshake: h, session: s, sentAt: now}
	p.request.Store(requestWorking)
	d.everywhere(p, d.sendHandshake(p, msg, p.Endpoint(), now))
	return true
}

// sendHandshake adds the macs, sends and returns the whole message.
func (d *Device) sendHandshake(p *Peer, msg []byte, to Endpoint, now int64) []byte {
	msg = append(msg, make([]byte, macsSize)...)
	p.cookies.AddMacs(msg)
	p.sentLast = now
	p.jitter = newJitter()
	p.tx.add(1, len(msg))
	p.timers.sent(now, false)
	d.out = append(d.out, Datagram{to, msg})
	return msg
}

// sendKeepalive sends an empty message. Without a session it asks for one.
func (d *Device) sendKeepalive(p *Peer, now int64) {
	pkts := [1]Packet{{Buf: make([]byte, HeaderSize, Overhead), Peer: p}}
	d.batch.Seal(pkts[:], now)
	if to := p.Endpoint(); pkts[0].Result == OK && to.Remote.IsValid() {
		d.out = append(d.out, Datagram{to, pkts[0].Buf})
	}
}

// newSession makes a session with an index. nil: no index is free, logged.
func (d *Device) newSession(p *Peer) *session {
	s := &session{peer: p}
	if !d.index.add(s) {
		d.log.Error("no free session index", "peer", p.public)
		return nil
	}
	return s
}

// dropInitiation forgets a handshake that we began.
func (d *Device) dropInitiation(p *Peer) {
	if i := p.initiation; i != nil {
		d.index.remove(i.session)
		i.handshake.zero()
		p.initiation = nil
	}
}
