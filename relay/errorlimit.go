package relay

import "time"

// errorLimit bounds the ICMP errors that a worker sends, in all and to each
// host (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f): without the second
// bound one host that scans or loops takes the errors away from all others,
// and a path MTU or a traceroute needs one.
type errorLimit struct {
	rate  int64 // errors per second; 0: none at all
	all   errorBucket
	hosts [errorHosts]errorBucket // by hash: two hosts that share one share its rate
}

const (
	defaultErrorRate = 1000 // per second and worker; Linux has as many for the whole host
	// errorHosts buckets are 4 KiB; the few hosts that get errors at any time rarely share one.
	errorHosts = 256
	// hostShare is what part of the rate one host gets at most.
	hostShare = 10
	// second is what one error costs in tokens, and the longest time that fills a bucket.
	second = int64(time.Second)
)

func newErrorLimit(rate int) errorLimit { return errorLimit{rate: int64(max(rate, 0))} }

// allow says whether an error may go to the host with this hash now, and counts it.
func (l *errorLimit) allow(now int64, host uint32) bool {
	if l.rate == 0 {
		return false
	}
	share := max(l.rate/hostShare, 1)
	own := &l.hosts[host%errorHosts]
	if !own.has(now, share, share) || !l.all.has(now, l.rate, share) {
		return false
	}
	own.tokens -= second
	l.all.tokens -= second
	return true
}

// errorBucket holds tokens worth a billionth of an error each, so that a rate times
// nanoseconds are tokens.
type errorBucket struct{ at, tokens int64 }

// has fills the bucket, which holds burst errors, and says whether there is one in it.
func (b *errorBucket) has(now, rate, burst int64) bool {
	b.tokens = min(b.tokens+min(now-b.at, second)*rate, burst*second)
	b.at = now
	return b.tokens >= second
}
