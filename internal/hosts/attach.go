package hosts

import (
	"net/netip"
	"slices"
)

// SetAttachments replaces the attachments. Hosts that still belong where they were stay known.
func (l *Learner) SetAttachments(attachments []Attachment) {
	l.mu.Lock()
	l.now = l.o.Clock()
	l.replace(attachments)
	changed := l.publish()
	l.mu.Unlock()
	if changed && l.o.OnChange != nil {
		l.o.OnChange()
	}
}

func (l *Learner) replace(attachments []Attachment) {
	old := l.segments
	l.segments = make(map[Segment]*segment, len(attachments))
	for _, a := range attachments {
		s := old[a.Segment]
		if s == nil {
			s = &segment{vteps: make(map[netip.Addr]*vtep)}
		}
		s.Attachment = a
		l.segments[a.Segment] = s
		if s.vpc = l.vpcs[a.VNI]; s.vpc == nil {
			s.vpc = &vpc{silent: make(map[*record]struct{}), vteps: make(map[*vtep]struct{}), tokens: askBurst * 1e9, filled: l.now}
			l.vpcs[a.VNI] = s.vpc
		}
		s.vpc.max = a.MaxHosts
	}
	for _, r := range slices.Clone(l.all) {
		s := l.segments[r.Segment]
		if s == nil || !s.Covers(r.Addr) || r.state == known && !s.holds(r.VTEP) {
			l.forget(r)
		}
	}
	for segment, s := range old {
		if l.segments[segment] == nil {
			for _, v := range s.vteps {
				s.dropVTEP(v)
			}
		}
	}
	for _, s := range l.segments {
		s.setVTEPs(l.now)
	}
	l.placeAll()
	for vni, v := range l.vpcs {
		if !slices.ContainsFunc(attachments, func(a Attachment) bool { return a.VNI == vni }) && v.known+v.waiting == 0 {
			delete(l.vpcs, vni)
		}
	}
}

// holds says whether an address may be a VTEP of the attachment.
func (s *segment) holds(vtep netip.Addr) bool {
	return len(s.VTEPs) == 0 || slices.Contains(s.VTEPs, vtep) || slices.Contains(s.Known, vtep) || slices.Contains(s.Told, vtep)
}

// setVTEPs takes in what the configuration says of VTEPs. Those that must go hold no hosts any more.
func (s *segment) setVTEPs(now int64) {
	s.fixed = len(s.VTEPs) > 0
	configured := slices.Concat(s.VTEPs, s.Known, s.Told)
	for a, v := range s.vteps {
		if v.kept = slices.Contains(configured, a); !v.kept && s.fixed {
			s.dropVTEP(v)
		} else if !v.kept && len(v.records) == 0 {
			v.emptied = now
		}
	}
	for _, a := range configured {
		if s.vteps[a] == nil {
			s.addVTEP(a, true)
		}
	}
}
