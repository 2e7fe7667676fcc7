package wireguard

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Two gateways go through ten bad minutes: losses, one-way cuts, delays,
// restarts, changes of peers and keys, idle times. Half a minute after all is
// well again, both must talk without any loss.
func TestGatewaysFindEachOtherAgainAfterAnyTrouble(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { trouble(t, rand.New(rand.NewPCG(uint64(seed), 7))) })
	}
}

func trouble(t *testing.T, r *rand.Rand) {
	w := newWorld(t)
	n := [2]*node{w.add("192.0.2.1:1"), w.add("192.0.2.2:2")}
	var config [2]PeerConfig
	var peers [2]*Peer
	setPeer := func(i int) { peers[i] = n[i].peer(n[1-i], config[i]) }
	setPeer(0)
	setPeer(1)
	var lost [2]float64
	var delay time.Duration
	var late []sent
	w.lose = func(s sent) bool {
		from := 0
		if s.from == n[1].addr {
			from = 1
		}
		if r.Float64() < lost[from] {
			return true
		}
		if delay > 0 {
			late = append(late, s)
			return true
		}
		return false
	}
	step := func(talk [2]bool) (ok [2]bool) {
		for i := range n {
			if talk[i] {
				ok[i] = n[i].say(peers[i], "x") == OK
			}
		}
		for len(late) > 0 && late[0].at+delay <= w.since() {
			w.queue = append(w.queue, late[0])
			late = late[1:]
		}
		w.pass(tickEvery)
		w.log = nil
		return ok
	}
	talk := [2]bool{true, true}
	for w.since() < 10*time.Minute {
		i := r.IntN(2)
		switch r.IntN(14) {
		case 0:
			lost = [2]float64{r.Float64(), r.Float64()}
		case 1:
			lost[i] = 1
		case 2, 3:
			lost = [2]float64{}
		case 4: // restart with the same key
			n[i].d.shutdown()
			o := Options{PrivateKey: n[i].key, Now: w.now, Send: n[i].send}
			n[i].d = must(New(o))
			n[i].batch = n[i].d.NewBatch()
			setPeer(i)
		case 5:
			n[i].d.RemovePeer(n[1-i].key.PublicKey())
			setPeer(i)
		case 6:
			psk := must(NewPresharedKey())
			config[0].PresharedKey, config[1].PresharedKey = psk, psk
			setPeer(0)
			setPeer(1)
		case 7: // our own key, and the other side is told
			n[1-i].d.RemovePeer(n[i].key.PublicKey())
			n[i].key = must(NewPrivateKey())
			if err := n[i].d.SetPrivateKey(n[i].key); err != nil {
				t.Fatal(err)
			}
			setPeer(1 - i)
		case 8:
			config[i].PersistentKeepalive = time.Duration(r.IntN(3)*7) * time.Second
			setPeer(i)
		case 9:
			talk[i] = !talk[i]
		case 10:
			talk = [2]bool{}
			w.pass(time.Duration(r.IntN(300)) * time.Second)
		case 11:
			delay = time.Duration(r.IntN(20)) * tickEvery
		case 12:
			peers[i].ask()
		case 13: // begin together
			peers[0].ask()
			peers[1].ask()
		}
		for range r.IntN(100) {
			step(talk)
		}
	}
	lost, delay, talk = [2]float64{}, 0, [2]bool{true, true}
	w.queue, late = nil, nil
	for range 300 { // half a minute
		step(talk)
	}
	w.settle()
	n[0].heard()
	n[1].heard()
	for i := range 3000 { // with two rekeys
		if ok := step(talk); ok != talk {
			t.Fatalf("%v after the trouble: sealed %v", time.Duration(300+i)*tickEvery, ok)
		}
	}
	w.settle()
	for i := range n {
		if got := len(n[i].heard()); got != 3000 {
			t.Errorf("gateway %d heard %d of 3000", i, got)
		}
	}
}
