package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// ID names a gateway: its WireGuard public key.
type ID [32]byte

// Kind of message.
type Kind uint8

// The kinds.
const (
	Report Kind = iota + 1 // a member's, to voters and to the gateways of other sites: what it is and asks for
	Vote                   // a voter's answer to the member that asked
	Hello                  // of a gateway of another site: it wants to hear reports
)

// Flag of an entry.
type Flag uint8

// The flags of a report; Asks is also that of a vote which is granted.
const (
	Asks    Flag = 1 << iota // for the lease, or to renew it
	Active                   // it holds the lease
	Ready                    // it could take over
	Wants                    // it would like to, though another is active: its priority is higher, and it has been ready for long
	Leaving                  // it has given the lease up in order; packets of its may be on their way
	Shared                   // nobody is active alone: all that are ready carry it
)

// Entry is what a message says about a VPC.
type Entry struct {
	VNI      uint32 // of the sender's site
	Flags    Flag
	Priority uint16
	Epoch    uint64 // of the lease; in a vote that is refused: the highest that the voter knows
}

// Message is what gateways tell each other, inside their tunnels: who sent it is not in it.
type Message struct {
	Kind  Kind
	Lease time.Duration // of a report: how long what is granted holds
	// Start is when this run of the member's process began, Seq numbers the reports of
	// that run. A vote has those of the report that it answers.
	Start, Seq uint64
	Entries    []Entry
}

// The form on the wire, big endian: magic, version, kind, number of entries (2), lease
// in milliseconds (4), start (8), seq (8), and for each entry flags, zero, priority (2),
// VNI (4), epoch (8).
const (
	headerLen = 28
	entryLen  = 16
	magic     = 0x536c4841 // "SlHA"
	version   = 1

	// MaxEntries of a message. Chosen: it fits the least MTU of IPv6 (1280) inside WireGuard and IPv6.
	MaxEntries = 64
	// MaxLease is the longest lease there is.
	MaxLease = time.Minute
)

// Append appends the message to b.
func (m *Message) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, magic)
	b = append(b, version, byte(m.Kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Entries)))
	b = binary.BigEndian.AppendUint32(b, uint32(m.Lease/time.Millisecond))
	b = binary.BigEndian.AppendUint64(b, m.Start)
	b = binary.BigEndian.AppendUint64(b, m.Seq)
	for _, e := range m.Entries {
		b = append(b, byte(e.Flags), 0)
		b = binary.BigEndian.AppendUint16(b, e.Priority)
		b = binary.BigEndian.AppendUint32(b, e.VNI)
		b = binary.BigEndian.AppendUint64(b, e.Epoch)
	}
	return b
}

// Parse reads a message.
func Parse(b []byte) (*Message, error) {
	if len(b) < headerLen {
		return nil, fmt.Errorf("cluster message of %d bytes: shorter than its header", len(b))
	}
	if binary.BigEndian.Uint32(b) != magic {
		return nil, errors.New("no cluster message: it does not begin with SlHA")
	}
	if b[4] != version {
		return nil, fmt.Errorf("cluster message of version %d: we speak %d", b[4], version)
	}
	m := &Message{
		Kind: Kind(b[5]), Lease: time.Duration(binary.BigEndian.Uint32(b[8:])) * time.Millisecond,
		Start: binary.BigEndian.Uint64(b[12:]), Seq: binary.BigEndian.Uint64(b[20:]),
	}
	n := int(binary.BigEndian.Uint16(b[6:]))
	switch {
	case m.Kind < Report || m.Kind > Hello:
		return nil, fmt.Errorf("cluster message of unknown kind %d", m.Kind)
	case n > MaxEntries || len(b) != headerLen+n*entryLen:
		return nil, fmt.Errorf("cluster message of %d bytes: not the length of %d entries, %d at most", len(b), n, MaxEntries)
	case m.Lease <= 0 || m.Lease > MaxLease:
		return nil, fmt.Errorf("cluster message with a lease of %v: not 1ms to %v", m.Lease, MaxLease)
	}
	for b = b[headerLen:]; len(b) > 0; b = b[entryLen:] {
		e := Entry{Flags: Flag(b[0]), Priority: binary.BigEndian.Uint16(b[2:]), VNI: binary.BigEndian.Uint32(b[4:]), Epoch: binary.BigEndian.Uint64(b[8:])}
		if e.VNI >= 1<<24 {
			return nil, fmt.Errorf("cluster message about VNI %d: it has more than 24 bits", e.VNI)
		}
		m.Entries = append(m.Entries, e)
	}
	return m, nil
}

// order tells late messages of a gateway from new ones.
type order struct {
	known      bool
	start, seq uint64
	heard      int64
}

// fresh says whether a message is newer than all before, and takes note of it. Runs of a
// process are told apart by when they began; after floorAge without a word one that began
// earlier is taken too: its clock was set back.
func (o *order) fresh(m *Message, now int64) bool {
	switch {
	case !o.known || m.Start > o.start || m.Start < o.start && now-o.heard >= int64(floorAge):
	case m.Start < o.start || m.Seq <= o.seq:
		return false
	}
	*o = order{known: true, start: m.Start, seq: m.Seq, heard: now}
	return true
}
