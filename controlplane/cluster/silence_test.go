package cluster_test

import (
	"testing"
	"time"

	"github.com/sluicegw/sluice/controlplane/cluster"
)

// speakers are members of a cluster whose VPC all carry, and a fence that hears them.
type speakers struct {
	fence *cluster.Fence
	now   int64
	seq   uint64
}

func (s *speakers) id(i int) cluster.ID { return cluster.ID{byte(i + 1)} }

// speak has members report every interval for a while, while the fence is looked at as often as it wants to be.
func (s *speakers) speak(d time.Duration, members ...int) {
	for end := s.now + int64(d); s.now < end; {
		for _, i := range members {
			s.report(i)
		}
		for next := s.now + int64(interval); s.now < next; s.now = min(next, max(s.fence.Wake(s.now), s.now+ms)) {
			s.fence.Expire(s.now)
		}
	}
}

func (s *speakers) report(i int) {
	s.seq++
	s.fence.Report(s.id(i), &cluster.Message{Kind: cluster.Report, Lease: lease, Start: 1, Seq: s.seq,
		Entries: []cluster.Entry{{VNI: vni, Flags: cluster.Shared | cluster.Ready}}}, s.now)
}

func (s *speakers) carries(i int) bool {
	v, _ := s.fence.View(vni)
	return v.Shared[s.id(i)]
}

func (s *speakers) want(t *testing.T, when string, want ...bool) {
	t.Helper()
	for i, w := range want {
		if s.carries(i) != w {
			t.Errorf("%s: member %d is sent to: %v", when, i, !w)
		}
	}
}

func TestOneThatFallsSilentWhileAnotherSpeaksIsLeftAfterALease(t *testing.T) {
	s := &speakers{fence: cluster.NewFence(), now: 1e9}
	s.speak(time.Second, 0, 1)
	s.want(t, "both speak", true, true)
	died := s.now
	for s.carries(0) && s.now < died+int64(time.Second) {
		s.speak(time.Millisecond, 1)
	}
	if took := time.Duration(s.now - died); took > lease || took < lease-2*interval {
		t.Errorf("it took %v, the lease is %v", took, lease)
	}
	s.want(t, "one has died", false, true)
	s.speak(interval, 0, 1)
	s.want(t, "it speaks again", false, true)
	s.speak(lease+interval, 0, 1)
	s.want(t, "and has done so for a lease", true, true)
}

func TestWhenAllFallSilentNobodyIsLeft(t *testing.T) {
	s := &speakers{fence: cluster.NewFence(), now: 1e9}
	s.speak(time.Second, 0, 1)
	s.speak(2 * time.Second)
	s.want(t, "nobody speaks", true, true)
	s.speak(interval, 1)
	s.speak(lease, 1)
	s.want(t, "one speaks again", false, true)
	s.speak(5 * time.Second)
	s.want(t, "and falls silent, too", false, true)
}

func TestWeAreHeldUpAndTakeNobodyForSilent(t *testing.T) {
	s := &speakers{fence: cluster.NewFence(), now: 1e9}
	s.speak(time.Second, 0, 1)
	s.now += 10 * int64(time.Second) // frozen
	s.fence.Expire(s.now)
	s.report(1) // what waited is read one by one
	s.fence.Expire(s.now)
	s.want(t, "after ten seconds", true, true)
	s.speak(time.Second, 0, 1)
	s.want(t, "and later", true, true)
}
