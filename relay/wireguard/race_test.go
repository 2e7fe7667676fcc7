package wireguard

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// traffic between two live Devices: workers of a seal, workers of b open.
type flow struct {
	t        *testing.T
	a, b     *live
	toB, toA *Peer
	pipe     chan []byte // messages from a to b
	workers  sync.WaitGroup
	openers  sync.WaitGroup
	stop     atomic.Bool

	sealed  atomic.Int64
	results [NumResults]atomic.Int64 // of b
}

func startFlow(t *testing.T) *flow {
	f := &flow{t: t, pipe: make(chan []byte, 256)}
	toA, toB := make(chan Datagram, 1024), make(chan Datagram, 1024)
	f.a = startLive(t, func(dg Datagram) { toB <- dg })
	f.b = startLive(t, func(dg Datagram) { toA <- dg })
	quit := make(chan struct{})
	var wires sync.WaitGroup
	for from, to := range map[chan Datagram]*live{toA: f.a, toB: f.b} {
		other := theirOuter
		if to == f.b {
			other = ourOuter
		}
		wires.Go(func() {
			for {
				select {
				case dg := <-from:
					to.receive(dg.Data, Endpoint{Remote: other})
				case <-quit:
					return
				}
			}
		})
	}
	t.Cleanup(func() { close(quit); wires.Wait() })
	f.toB = must(f.a.d.SetPeer(PeerConfig{PublicKey: f.b.key.PublicKey(), Endpoint: Endpoint{Remote: theirOuter}}))
	f.toA = must(f.b.d.SetPeer(PeerConfig{PublicKey: f.a.key.PublicKey(), Endpoint: Endpoint{Remote: ourOuter}}))
	return f
}

// seal runs a worker of a that seals batches until stop; check sees every
// result.
func (f *flow) seal(peer func() *Peer, check func(before any, r Result), before func() any) {
	f.workers.Go(func() {
		b := f.a.d.NewBatch()
		pkts := make([]Packet, 16)
		for !f.stop.Load() {
			for i := range pkts {
				pkts[i] = plain(peer(), binary.LittleEndian.AppendUint64(nil, uint64(f.sealed.Add(1))))
			}
			was := before()
			b.Seal(pkts, f.a.d.Clock())
			for i := range pkts {
				check(was, pkts[i].Result)
				if pkts[i].Result == OK {
					f.pipe <- pkts[i].Buf
				} else {
					f.sealed.Add(-1)
				}
			}
			// At full speed a worker that the scheduler leaves alone for long
			// would fall behind the replay window (32704 messages).
			time.Sleep(2 * time.Millisecond)
		}
	})
}

// open runs a worker of b.
func (f *flow) open() {
	f.openers.Go(func() {
		b := f.b.d.NewBatch()
		b.Locate = AllFrom(Endpoint{Remote: ourOuter})
		pkts := make([]Packet, 0, 32)
		for msg := range f.pipe {
			pkts = append(pkts[:0], Packet{Buf: msg})
		more:
			for len(pkts) < cap(pkts) {
				select {
				case msg, ok := <-f.pipe:
					if !ok {
						break more
					}
					pkts = append(pkts, Packet{Buf: msg})
				default:
					break more
				}
			}
			b.Open(pkts, f.b.d.Clock())
			for i := range pkts {
				f.results[pkts[i].Result].Add(1)
			}
		}
	})
}

// finish stops the workers and waits for them.
func (f *flow) finish() {
	f.stop.Store(true)
	f.workers.Wait()
	close(f.pipe)
	f.openers.Wait()
}

func TestKeyRotationUnderTrafficOnManyWorkersLosesNothing(t *testing.T) {
	f := startFlow(t)
	f.a.say(f.toB, []byte("knock"))
	for range 3 {
		f.seal(func() *Peer { return f.toB }, func(_ any, r Result) {
			if r != OK {
				t.Errorf("seal: %v", r)
			}
		}, func() any { return nil })
		f.open()
	}
	// Both sides begin new sessions, faster than the protocol would let them.
	const rotations = 12
	for i := range rotations {
		// A responder takes no two initiations within 20 ms.
		time.Sleep(40 * time.Millisecond)
		d, p := f.a.d, f.toB
		if i%3 == 2 {
			d, p = f.b.d, f.toA
		}
		epoch := d.Epoch()
		d.mu.Lock()
		p.sentLast = 0
		d.mu.Unlock()
		p.ask()
		for end := time.Now().Add(10 * time.Second); d.Epoch() == epoch; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no new session")
			}
		}
	}
	f.finish()
	if got := f.results[OK].Load(); got != f.sealed.Load() || got == 0 {
		t.Errorf("%d opened of %d", got, f.sealed.Load())
	}
	for i := range f.results {
		if r, n := Result(i), f.results[i].Load(); r != OK && n != 0 {
			t.Errorf("%d messages: %v", n, r)
		}
	}
	tx, rx := f.toB.Status(), f.toA.Status()
	if tx.TxPackets < uint64(f.sealed.Load()) || rx.RxPackets < uint64(f.sealed.Load()) {
		t.Errorf("counted %d sent, %d received of %d", tx.TxPackets, rx.RxPackets, f.sealed.Load())
	}
}

func TestSameMessageOpenedByManyWorkersIsAcceptedOnce(t *testing.T) {
	w, a, b, toB, _ := pair(t)
	w.connect(a, toB)
	const messages, workers = 200, 4
	sealed := make([][]byte, messages)
	for i := range sealed {
		sealed[i], _ = a.seal(toB, []byte{byte(i), 1})
	}
	var results [NumResults]atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			batch := b.d.NewBatch()
			for i := 0; i < messages; i += 20 {
				var pkts []Packet
				for _, m := range sealed[i : i+20] {
					pkts = append(pkts, Packet{Buf: append([]byte(nil), m...)})
				}
				batch.Open(pkts, b.d.Clock())
				for _, p := range pkts {
					results[p.Result].Add(1)
				}
			}
		})
	}
	wg.Wait()
	if ok, replay := results[OK].Load(), results[Replay].Load(); ok != messages || replay != messages*(workers-1) {
		t.Errorf("%d accepted, %d replays, want %d and %d", ok, replay, messages, messages*(workers-1))
	}
}

func TestNoncesAreNeverUsedTwice(t *testing.T) {
	w, a, _, toB, _ := pair(t)
	w.connect(a, toB)
	start := toB.current.Load().nonce.Load()
	const workers, batches, size = 4, 100, 33
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			batch := a.d.NewBatch()
			for range batches {
				pkts := make([]Packet, size)
				for i := range pkts {
					pkts[i] = plain(toB, nil)
				}
				batch.Seal(pkts, a.d.Clock())
				mu.Lock()
				for _, p := range pkts {
					n := binary.LittleEndian.Uint64(p.Buf[8:])
					if seen[n] {
						t.Errorf("nonce %d twice", n)
					}
					seen[n] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if end := toB.current.Load().nonce.Load(); end != start+workers*batches*size || len(seen) != workers*batches*size {
		t.Errorf("nonces %d to %d, %d different", start, end, len(seen))
	}
}

func TestPeerRemovedUnderTraffic(t *testing.T) {
	f := startFlow(t)
	var removed atomic.Bool // RemovePeer has returned
	var current atomic.Pointer[Peer]
	current.Store(f.toB)
	for range 2 {
		f.seal(current.Load, func(before any, r Result) {
			if before.(bool) && r == OK && removed.Load() {
				t.Error("sealed for a peer that had been removed")
			}
		}, func() any { return removed.Load() })
		f.open()
	}
	config := PeerConfig{PublicKey: f.b.key.PublicKey(), Endpoint: Endpoint{Remote: theirOuter}}
	for range 8 {
		for end := time.Now().Add(10 * time.Second); !current.Load().Status().Session; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no session")
			}
		}
		time.Sleep(5 * time.Millisecond)
		f.a.d.RemovePeer(config.PublicKey)
		removed.Store(true)
		time.Sleep(20 * time.Millisecond)
		if used := f.a.used(); used != 0 {
			t.Errorf("%d indexes used without a peer", used)
		}
		removed.Store(false)
		current.Store(must(f.a.d.SetPeer(config)))
	}
	f.finish()
	if f.results[OK].Load() == 0 {
		t.Error("no traffic")
	}
}

func (l *live) used() int {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	return l.d.index.used
}

func TestEverythingMayBeCalledAtOnce(t *testing.T) {
	f := startFlow(t)
	f.a.say(f.toB, []byte("knock"))
	for range 2 {
		f.seal(func() *Peer { return f.toB }, func(any, Result) {}, func() any { return nil })
		f.open()
	}
	var wg sync.WaitGroup
	for _, call := range []func(int){
		func(int) { f.toB.Status() },
		func(int) { f.a.d.Peers(); f.a.d.Counters(); f.a.d.PublicKey() },
		func(i int) {
			must(f.a.d.SetPeer(PeerConfig{PublicKey: f.toB.PublicKey(), Endpoint: Endpoint{Remote: theirOuter}, PersistentKeepalive: time.Duration(i) * time.Second}))
		},
		func(i int) {
			k := must(NewPrivateKey())
			p := must(f.a.d.SetPeer(PeerConfig{PublicKey: k.PublicKey(), Endpoint: Endpoint{Remote: theirOuter}}))
			p.ask()
			f.a.d.RemovePeer(k.PublicKey())
		},
		func(i int) {
			if i%50 == 0 {
				if err := f.b.d.SetPrivateKey(must(NewPrivateKey())); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		wg.Go(func() {
			for i := range 200 {
				call(i)
			}
		})
	}
	wg.Wait()
	f.finish()
}

func TestClosedDevice(t *testing.T) {
	w, a, _, toB, _ := pair(t)
	w.connect(a, toB)
	s := toB.current.Load()
	private := a.d.private
	a.d.shutdown()
	if _, r := a.seal(toB, []byte("x")); r != NoPeer {
		t.Errorf("seal: %v", r)
	}
	assertKilled(t, s)
	if *private.key() != ([keySize]byte{}) {
		t.Error("the private key is not zeroed")
	}
	if _, err := a.d.SetPeer(PeerConfig{PublicKey: PublicKey{9}}); err == nil {
		t.Error("a closed device takes peers")
	}
	if err := a.d.SetPrivateKey(must(NewPrivateKey())); err == nil {
		t.Error("a closed device takes a key")
	}
	if a.key.PublicKey() != must(ParsePrivateKey(string(a.key.RevealBase64()))).PublicKey() {
		t.Error("the caller's own key was zeroed")
	}
}

func TestRunIsCalledOnce(t *testing.T) {
	l := startLive(t, func(Datagram) {})
	for !l.d.running.Load() {
		time.Sleep(time.Millisecond)
	}
	if err := l.d.Run(t.Context()); err == nil {
		t.Error("ran twice")
	}
}
