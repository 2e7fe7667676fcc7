package pair

import (
	"time"

	"github.com/sluicegw/sluice/bench/method"
)

// Schema is the number of the result's format; it grows when a field's meaning changes.
const Schema = 1

// Result of a run. Times are in nanoseconds where the name ends in Ns, sizes in bytes of IP packets.
type Result struct {
	Schema int       `json:"schema"`
	Date   time.Time `json:"date"`
	To     string    `json:"to"`
	Local  Host      `json:"local"`
	Remote Host      `json:"remote"`
	Limits Limits    `json:"limits"` // the server's
	Flows  int       `json:"flows"`
	// Trial is how long each rate was tried.
	Trial time.Duration `json:"trialNs"`
	MTU   int           `json:"mtu"`
	RTT   *RTT          `json:"rtt,omitempty"`
	UDP   []UDP         `json:"udp,omitempty"`
	TCP   []TCP         `json:"tcp,omitempty"`
	// Notes that a reader has to know.
	Notes []string `json:"notes,omitempty"`
}

// RTT is round trips on the path while nothing else of ours is on it.
type RTT struct {
	Size     int               `json:"size"`
	Sent     uint64            `json:"sent"`
	Received uint64            `json:"received"`
	Trip     []method.Quantile `json:"trip"`
	// Variation of the one-way delay, above the least one.
	Up   []method.Quantile `json:"upVariation"`
	Down []method.Quantile `json:"downVariation"`
}

// UDP is the rates of one size in one direction.
type UDP struct {
	Direction string `json:"direction"`
	Size      int    `json:"size"`
	// NDR: nothing was lost; PDR: at most 0.5 %. A rate of 0: none was found.
	NDR method.Rate `json:"ndr"`
	PDR method.Rate `json:"pdr"`
	// Bound says what ends the rate: the path, or a host, or a limit: then the path can do more.
	Bound Bound `json:"bound"`
	// Loads are trials at shares of the NDR, or where there is none of the PDR.
	Loads []Load `json:"loads"`
}

// Bound of a rate.
type Bound string

// The bounds.
const (
	BoundPath     Bound = "path"
	BoundSender   Bound = "sender"   // its host cannot send faster
	BoundReceiver Bound = "receiver" // packets were lost at its socket
	BoundLimit    Bound = "limit"    // of the server, or of the options
)

// Load is one trial.
type Load struct {
	Share      float64 `json:"share"`
	PPS        float64 `json:"pps"` // asked for
	Sent       uint64  `json:"sent"`
	Received   uint64  `json:"received"`
	Reordered  uint64  `json:"reordered,omitempty"`
	Duplicates uint64  `json:"duplicates,omitempty"`
	Overrun    uint64  `json:"overrun,omitempty"` // of what was lost: at the receiver's socket
	// Variation of the one-way delay, above the least one of the trial.
	Variation []method.Quantile `json:"variation"`
	// Trip is round trips of sparse packets meanwhile.
	Trip []method.Quantile `json:"trip"`
}

// Lost packets, as a share.
func (l Load) Lost() float64 {
	if l.Sent == 0 {
		return 0
	}
	return float64(l.Sent-l.Received) / float64(l.Sent)
}

// TCP is the goodput of some connections in one direction.
type TCP struct {
	Direction     string  `json:"direction"`
	Streams       int     `json:"streams"`
	Bits          float64 `json:"bitsPerSecond"` // of payload, at the receiver
	Retransmitted uint64  `json:"retransmitted"`
}
