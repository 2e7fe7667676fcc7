package cluster

import "time"

const (
	// Grace is how long packets of a member that has handed over in order are still
	// taken. Chosen: longer than a packet or a BGP withdrawal is ever on its way.
	Grace = 3 * time.Second
	// floorAge is how long an epoch stays in mind that nobody claims any more: a member
	// that was frozen is refused for as long, and a site whose clocks were set back
	// while all of it was down is believed again afterwards.
	floorAge = 10 * time.Second
)

// Fence is what a gateway of another site knows of a cluster: of each VPC, whom it
// sends to and takes packets from. A VPC that no member has spoken of is not fenced.
type Fence struct {
	vpcs    map[uint32]*fenced
	members map[ID]*spoken
	looked  int64 // when Expire was called last
}

// fenced is a VPC that some member has spoken of.
type fenced struct {
	holder ID
	held   bool   // there is a holder
	epoch  uint64 // its, or of the last there was
	heard  int64  // when that epoch was claimed last
	left   bool   // the holder has handed over in order
	gone   int64  // and is forgotten then, if nobody takes over

	shared map[ID]bool // nobody holds it alone: who says that it is ready
	before ID          // the holder before
	until  int64       // until when packets of it are taken, if it has said that it is active no more; or 0
}

// NewFence makes a fence that has heard nothing.
func NewFence() *Fence {
	return &Fence{vpcs: make(map[uint32]*fenced), members: make(map[ID]*spoken)}
}

// Report takes a member's report. changed: View says something else now.
func (f *Fence) Report(from ID, m *Message, now int64) (changed bool) {
	known := f.members[from]
	if known == nil {
		known = new(spoken)
		f.members[from] = known
	}
	if m.Kind != Report || !known.fresh(m, now) {
		return false
	}
	changed = known.speaks(m, now)
	for _, e := range m.Entries {
		v := f.vpcs[e.VNI]
		if v == nil {
			if len(f.vpcs) >= maxVNIs {
				continue
			}
			v = new(fenced)
			f.vpcs[e.VNI], changed = v, true
		}
		if e.Flags&Shared != 0 {
			changed = v.offer(from, e.Flags&Ready != 0) || changed
			continue
		}
		delete(v.shared, from)
		changed = v.report(from, e, now) || changed
	}
	return changed
}

// offer takes what a member says of a VPC that all share.
func (v *fenced) offer(from ID, ready bool) (changed bool) {
	if v.shared == nil {
		v.shared = make(map[ID]bool)
	}
	was, known := v.shared[from]
	v.shared[from] = ready
	return !known || was != ready
}

func (v *fenced) report(from ID, e Entry, now int64) (changed bool) {
	own := v.held && v.holder == from
	switch {
	case e.Flags&Active == 0 && own && !v.left:
		// In order or not: it does not think itself active. Until another does, what is on
		// its way in both directions may go on.
		v.left, v.gone = true, now+int64(Grace)
		return false
	case e.Flags&Leaving != 0 && v.before == from && v.until == 0: // its word came later than its successor's
		v.until = now + int64(Grace)
		return true
	case e.Flags&Active == 0:
		return false
	case e.Epoch < v.epoch && now-v.heard < int64(floorAge), e.Epoch == v.epoch && v.heard != 0 && v.holder != from:
		return false
	case own:
		v.epoch, v.heard, v.left = e.Epoch, now, false
		return false
	}
	v.before, v.until = v.holder, 0
	if v.held && v.left {
		v.until = now + int64(Grace)
	}
	v.holder, v.held, v.epoch, v.heard, v.left = from, true, e.Epoch, now, false
	return true
}

// Expire forgets what has had its time. changed: View says something else now.
func (f *Fence) Expire(now int64) (changed bool) {
	changed = f.listen(now)
	for _, v := range f.vpcs {
		if v.held && v.left && now >= v.gone {
			v.held, changed = false, true
		}
		if v.until != 0 && now >= v.until {
			v.until, v.before, changed = 0, ID{}, true
		}
	}
	return changed
}

// View of a VPC.
type View struct {
	// Shared says of every member that has spoken whether it is ready, and not silent
	// while others speak; nil: the VPC is not shared, and one of them holds it.
	Shared map[ID]bool
	Holder ID
	Held   bool // there is a Holder; if there is none, nobody is sent to
	Epoch  uint64
	// Before is the member before, whose packets are still taken; zero: nobody.
	Before ID
}

// View returns what is known of a VPC; false: no member has spoken of it.
func (f *Fence) View(vni uint32) (View, bool) {
	v := f.vpcs[vni]
	if v == nil {
		return View{}, false
	}
	if len(v.shared) > 0 {
		return View{Shared: f.offers(v)}, true
	}
	out := View{Holder: v.holder, Held: v.held, Epoch: v.epoch}
	if v.until != 0 {
		out.Before = v.before
	}
	return out, true
}
