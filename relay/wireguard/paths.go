package wireguard

import (
	"bytes"
	"net/netip"
	"slices"
)

// A peer is reached in one way, which its messages tell of (roaming), or in
// several that are known beforehand: its paths. Then it is on us to choose
// (Use), and where its messages come from moves nothing: the other side chooses
// for itself, and may well send by another path than we do. One session serves
// all of them.
//
// Until there is a session nothing is known of any path. Therefore an initiation
// goes out by all of them at once: the first that arrives is answered, the
// others are replays of it, and the path that the handshake took is used until
// somebody knows better.

// SetPaths says by which paths the peer can be reached, the best guess first. None: by
// where its messages come from, as with any WireGuard peer.
func (p *Peer) SetPaths(paths []Endpoint) {
	p.dev.mu.Lock()
	defer p.dev.mu.Unlock()
	if len(paths) == 0 {
		p.paths.Store(nil)
		p.stray.Store(nil)
		return
	}
	if known := p.paths.Load(); known != nil && slices.Equal(*known, paths) {
		return
	}
	paths = slices.Clone(paths)
	p.paths.Store(&paths)
	now := p.Endpoint()
	if i := slices.IndexFunc(paths, func(e Endpoint) bool { return e.SameWay(&now) }); i < 0 {
		p.Use(paths[0])
	}
	if p.request.Load() == requestWorking && p.initiation == nil {
		p.request.Store(requestAsked) // it waited for an endpoint
		p.dev.wakeUp()
	}
}

// Use has everything that goes to the peer take this way from now on.
func (p *Peer) Use(e Endpoint) { p.endpoint.Store(&e) }

// Stray is where an authentic message of a peer with paths has come from last that came by
// none of them: it may have moved. Remote is invalid if there was none.
func (p *Peer) Stray() Endpoint {
	if e := p.stray.Load(); e != nil {
		return *e
	}
	return Endpoint{}
}

// AnswerTo is the way back to where a message came from: from.Ifindex is the interface that it
// came in through. usual: it is the way that all takes.
func (p *Peer) AnswerTo(from Endpoint) (to Endpoint, usual bool) {
	used, paths := p.endpoint.Load(), p.paths.Load()
	if paths == nil {
		if port := used.Remote.Port(); port != 0 && p.spread.Load().Has(from.Remote.Port()) {
			from.Remote = netip.AddrPortFrom(from.Remote.Addr(), port)
		}
		from.Ifindex = 0
		return from, from == *used
	}
	p.unspread(&from, *paths)
	for _, e := range *paths {
		if e.Takes(&from) {
			usual = e.SameWay(used)
			e.Local = from.Local
			return e, usual
		}
	}
	from.Ifindex = 0
	return from, false
}

// unspread undoes in e what the peer's choice of a source port by flow did.
func (p *Peer) unspread(e *Endpoint, paths []Endpoint) {
	if !p.spread.Load().Has(e.Remote.Port()) {
		return
	}
	for i := range paths {
		if paths[i].Remote.Addr() == e.Remote.Addr() {
			e.Remote = paths[i].Remote
			return
		}
	}
}

// strayed notes that an authentic message came from e, if that is none of the paths.
func (p *Peer) strayed(paths []Endpoint, e *Endpoint) {
	for i := range paths {
		if paths[i].Remote == e.Remote {
			return
		}
	}
	if old := p.stray.Load(); old == nil || old.Remote != e.Remote {
		p.stray.Store(&Endpoint{Remote: e.Remote, Local: e.Local})
	}
}

// proven uses the path that a handshake took when there was no session before: until then nothing
// was known of any.
func (p *Peer) proven(from *Endpoint) {
	if p.paths.Load() == nil {
		return
	}
	if to, usual := p.AnswerTo(*from); !usual {
		p.Use(to)
	}
}

// sessionless says that there is no session to send with.
func (p *Peer) sessionless(now int64) bool {
	s := p.current.Load()
	return s == nil || now-s.created >= rejectAfterTime
}

// everywhere sends an initiation also by the paths that are not in use.
func (d *Device) everywhere(p *Peer, msg []byte) {
	paths := p.paths.Load()
	if paths == nil {
		return
	}
	used := p.Endpoint()
	for _, e := range *paths {
		if !e.SameWay(&used) {
			d.out = append(d.out, Datagram{e, bytes.Clone(msg)})
		}
	}
	if stray := p.stray.Load(); stray != nil && stray.Remote != used.Remote {
		d.out = append(d.out, Datagram{*stray, bytes.Clone(msg)})
	}
}
