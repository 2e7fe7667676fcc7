package hosts

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// What we chose, with the reasons. Nanoseconds of Options.Clock.
const (
	// quietAfter: a host that is sent to and has not been seen for this long is asked for. With claimWait and the tick
	// that leaves room within two seconds for the way to a host that has moved without a word.
	quietAfter = int64(750 * time.Millisecond)
	// quietMost: a host that only listens is asked for less and less often, down to this.
	quietMost = int64(15 * time.Second)
	// askAgain is the least time between two questions of workers for one host.
	askAgain = int64(time.Second)
	// claimWait is how long a host may take to answer where it was before another place gets its address: three times
	// what a loaded node was seen to take.
	claimWait = int64(300 * time.Millisecond)
	// refuseFor: after a claim that the host has refuted, others are not looked at for this long.
	refuseFor = int64(500 * time.Millisecond)
	// flapMoves within flapWindow are too many (RFC 7432 section 15.1 has five, too): the host stays for flapHold.
	flapMoves  = 5
	flapWindow = int64(60 * time.Second)
	flapHold   = int64(30 * time.Second)
	// silentFor doubles with each question in a row that nobody answers, up to silentMost.
	silentFor  = int64(5 * time.Second)
	silentMost = int64(60 * time.Second)
	// maxWaiting bounds the addresses of a VPC that are asked for or known to be silent: what a scan can occupy.
	maxWaiting = 1024
	// maxVTEPs bounds the VTEPs of one attachment that are learned.
	maxVTEPs = 1024
	// vtepFor is how long a learned VTEP without hosts is still asked.
	vtepFor = int64(10 * time.Minute)
	// askRate is how many questions a VPC sends per second, askBurst at once: one for each VTEP that is asked.
	askRate, askBurst = 1000, 1000
	// tick is how often questions under way are looked at, sweepEvery how often each host's age is.
	tick       = 20 * time.Millisecond
	idleTick   = 500 * time.Millisecond
	sweepEvery = int64(2 * time.Second)
	// troubleFor is how long a host that flapped or was claimed by two is spoken of.
	troubleFor = int64(5 * time.Minute)
)

// Question is what the relay is asked to send: an Ethernet frame inside an attachment's overlay, to one VTEP.
type Question struct {
	Segment
	VTEP  netip.Addr
	Frame []byte // owned: the receiver's from now on
}

// Options of New. Clock and Send are required.
type Options struct {
	// Clock is the workers' (wireguard.Device.Clock): nanoseconds, monotonic, never zero.
	Clock func() int64
	// Send takes a question to the network. It must not block; false: it is lost.
	Send func(Question) bool
	// OnChange is called after a new table was published; nil: nobody wants to know.
	OnChange func()
	// Logger takes moves that do not end; nil: nothing is logged.
	Logger *slog.Logger
}

// Attachment is an overlay attachment that has hosts to find.
type Attachment struct {
	Segment
	// VPC is its name, for people.
	VPC string
	// Covers says whether an address belongs to this attachment: the longest route of its VPC leads here.
	Covers func(netip.Addr) bool
	// Gateway4, Gateway6 and MAC are the sender of questions. Without an address of its family a host is not asked for.
	Gateway4, Gateway6 netip.Addr
	MAC                [6]byte
	// VTEPs are the only ones that hold hosts. None: whoever sends from the attachment's addresses.
	VTEPs []netip.Addr
	// Known are VTEPs to ask beside those.
	Known []netip.Addr
	// Told are VTEPs that a control plane names; with VTEPs, they are among those.
	Told []netip.Addr
	// Listen: what hosts send tells where they are. Otherwise only answers to questions do.
	Listen bool
	// MaxHosts bounds the hosts of the VPC, the same for all its attachments.
	MaxHosts int
	// Timeout: a host that was not seen for this long is asked, and forgotten when it does not answer.
	Timeout time.Duration
}

// Learner keeps the table. Its methods may be called from any goroutine.
type Learner struct {
	o     Options
	inbox *inbox
	table atomic.Pointer[Table]

	mu        sync.Mutex
	now       int64 // of the work in hand
	segments  map[Segment]*segment
	vpcs      map[uint32]*vpc
	records   map[Key]*record
	told      map[Key]Place        // by the control plane
	all       []*record            // the same, in the order of the sweep
	busy      map[*record]struct{} // with something due at record.next
	cursor    int
	sweptAt   int64
	changes   map[Key]*Entry // not yet published; nil: no entry any more
	trouble   map[*record]int64
	sightings []Sighting
	questions []Key
	counters  Counters
}

// New makes a learner that knows nothing.
func New(o Options) *Learner {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Learner{o: o, inbox: newInbox(), segments: make(map[Segment]*segment), vpcs: make(map[uint32]*vpc),
		records: make(map[Key]*record), told: make(map[Key]Place), busy: make(map[*record]struct{}), changes: make(map[Key]*Entry), trouble: make(map[*record]int64)}
	l.table.Store(new(Table))
	return l
}

// Table returns the current table, never nil.
func (l *Learner) Table() *Table { return l.table.Load() }

// Saw tells of a host that is not where the table says, or not in it. It never blocks; false: tell again.
func (l *Learner) Saw(s *Sighting) bool { return l.inbox.saw(s) }

// Ask wants to know where a host is, or whether it still is where it was. It never blocks; false: ask again.
func (l *Learner) Ask(k Key) bool { return l.inbox.ask(k) }

// Run works until ctx ends, and returns nil.
func (l *Learner) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.inbox.wake:
		case <-timer.C:
		}
		timer.Reset(l.Work())
	}
}

// Work does what is due and says how long it may wait for the next time; Run calls it. Pipelines in memory call it
// instead of Run.
func (l *Learner) Work() time.Duration {
	l.mu.Lock()
	l.now = l.o.Clock()
	l.sightings, l.questions, l.counters.Lost = l.inbox.take(l.sightings, l.questions)
	for i := range l.sightings {
		l.sighting(&l.sightings[i])
	}
	for _, k := range l.questions {
		l.question(k)
	}
	for r := range l.busy {
		if l.now >= r.next {
			l.advance(r)
		}
	}
	l.sweep()
	changed := l.publish()
	wait := idleTick
	if len(l.busy) > 0 {
		wait = tick
	}
	l.mu.Unlock()
	if changed && l.o.OnChange != nil {
		l.o.OnChange()
	}
	return wait
}

func (l *Learner) publish() bool {
	if len(l.changes) == 0 {
		return false
	}
	l.table.Store(l.table.Load().with(l.changes))
	clear(l.changes)
	return true
}
