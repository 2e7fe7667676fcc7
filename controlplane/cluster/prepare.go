package cluster

// The first half of a take-over can be made before it is decided: a standby that may be elected in a moment has routers
// told of it as the last resort. They then know the way, and need not learn it when the other gateway is gone.

// doubt is how long the active member may say nothing until the standby prepares: two reports are missing by then,
// if a lease is five intervals long.
func (m *Machine) doubt() int64 { return int64(m.c.Lease) / 2 }

// prepares says whether this member makes ready to take over: the active one should have been heard again by now, and
// nobody else would go first.
func (m *Machine) prepares(v *vpc, now int64) bool {
	if v.Shared || v.role > Candidate || !m.eligible(v, now) {
		return false
	}
	doubted := v.role == Candidate
	for _, o := range m.members {
		e, known := o.vpcs[v.VNI]
		switch {
		case !known || !m.live(o, now):
		case now-o.heard >= m.doubt():
			doubted = doubted || e.Flags&Active != 0
		case e.Flags&Active != 0, e.Flags&(Ready|Leaving) == Ready && m.outranks(o, e, v):
			return false
		}
	}
	return doubted
}
