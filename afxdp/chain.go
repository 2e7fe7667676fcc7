package afxdp

// maxChain is the most descriptors that one packet may have: the kernel makes the first the head of an
// skb and the others its fragments (MAX_SKB_FRAGS, 17 unless configured otherwise). It drops longer ones
// without completing their frames.
const maxChain = 17

// sendChains is Send for packets of several descriptors. It takes whole packets only; what the kernel would
// refuse of one, or a packet without an end in src, is refused whole.
func (s *Socket) sendChains(src []Desc, room int) int {
	taken := 0
	for taken < len(src) {
		n := chainLen(src[taken:])
		chain := src[taken:]
		if n > 0 {
			chain = chain[:n]
		}
		if n == 0 || !s.sendable(chain) {
			s.refuseChain(chain)
		} else if n > room {
			break
		} else {
			s.putChain(chain)
			room -= n
		}
		taken += len(chain)
	}
	s.tx.publish()
	return taken
}

// chainLen is how many descriptors the first packet has; 0 when its end is not there.
func chainLen(src []Desc) int {
	for i, d := range src {
		if d.Options&Continued == 0 {
			return i + 1
		}
	}
	return 0
}

// sendable says whether the kernel would take a packet, and all its frames are the caller's.
func (s *Socket) sendable(chain []Desc) bool {
	if len(chain) > min(maxChain, int(s.tx.size)) {
		return false
	}
	for i, d := range chain {
		if !s.umem.holds(d) || d.Options&^Continued != 0 || !s.umem.pool.is(d.Addr, atCaller) {
			return false
		}
		for _, other := range chain[:i] { // the same frame twice
			if s.umem.FrameBase(other.Addr) == s.umem.FrameBase(d.Addr) {
				return false
			}
		}
	}
	return true
}

func (s *Socket) putChain(chain []Desc) {
	for _, d := range chain {
		s.umem.pool.move(d.Addr, atCaller, s.txPlace)
		s.tx.entries[s.tx.prod&s.tx.mask] = d
		s.tx.prod++
	}
	s.txHeld += len(chain)
}

func (s *Socket) refuseChain(chain []Desc) {
	for _, d := range chain {
		s.refuse(d)
	}
}
