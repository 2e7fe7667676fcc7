package cluster

import "time"

// Of a VPC that all gateways of a cluster carry, a fence knows who is ready from what they
// say. One that says nothing for a lease while another speaks is taken for not ready: so a
// gateway that dies is left as soon as an active one is replaced, whatever probes are set
// to. Taken for silent by mistake costs nothing: both carry what comes.

// spoken is when and how a member was heard.
type spoken struct {
	order
	lease  time.Duration // as it said last
	silent bool
	again  int64 // silent: since when it speaks again without a pause; 0: it does not
}

// speaks takes note of a report. changed: it counts as silent no more.
func (s *spoken) speaks(m *Message, now int64) (changed bool) {
	s.lease = m.Lease
	if !s.silent {
		return false
	}
	if s.again == 0 {
		s.again = now
	}
	if now-s.again < int64(s.lease) {
		return false
	}
	s.silent, s.again = false, 0
	return true
}

// listen finds out who is silent. changed: somebody is who was not.
func (f *Fence) listen(now int64) (changed bool) {
	gap := now - f.looked
	if f.looked == 0 {
		gap = 0
	}
	f.looked = now
	latest := int64(0)
	for _, s := range f.members {
		if late := gap - int64(s.lease)/2; s.known && late > 0 {
			// We were held up ourselves: what they said meanwhile may wait to be read.
			s.heard += late
		}
		latest = max(latest, s.heard)
	}
	for _, s := range f.members {
		switch {
		case !s.known || now-s.heard < int64(s.lease):
		case s.silent:
			s.again = 0
		case now-latest < int64(s.lease)/2:
			s.silent, changed = true, true
		}
	}
	return changed
}

// offers says who carries a VPC that all share.
func (f *Fence) offers(v *fenced) map[ID]bool {
	out := make(map[ID]bool, len(v.shared))
	for id, ready := range v.shared {
		out[id] = ready && !f.members[id].silent
	}
	return out
}

// Wake is when Expire is to be called at the latest.
func (f *Fence) Wake(now int64) int64 {
	wake := now + int64(time.Second)
	for _, s := range f.members {
		if !s.known {
			continue
		}
		wake = min(wake, now+int64(s.lease)/4)
		if end := s.heard + int64(s.lease); !s.silent && end > now {
			wake = min(wake, end)
		}
	}
	return wake
}
