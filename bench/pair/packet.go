package pair

import "encoding/binary"

// The payload of a UDP packet, big endian:
//
//	 0  tag        8 bytes  of the session
//	 8  what       1 byte   data, echo, answer, knock, known
//	 9  zero       1 byte
//	10  flow       2 bytes  the client's port, by number
//	12  trial      4 bytes
//	16  sequence   8 bytes  per flow, from 0
//	24  sent       8 bytes  the sender's clock, ns since 1970
//	32  received   8 bytes  answer only: the reflector's clock, echo received
//	40  answered   8 bytes  answer only: the reflector's clock, answer sent
//
// The rest is zero.
const (
	tagLen     = 8
	headerLen  = 32
	answerLen  = 48
	overheadV4 = 20 + 8 // IPv4 without options, UDP
	overheadV6 = 40 + 8
)

// MinSize of an IP packet of a trial; an echo needs MinEcho.
func MinSize(v6 bool) int { return headerLen + overhead(v6) }

// MinEcho is the least size of an IP packet that is an echo.
func MinEcho(v6 bool) int { return answerLen + overhead(v6) }

func overhead(v6 bool) int {
	if v6 {
		return overheadV6
	}
	return overheadV4
}

// what a packet is.
type what uint8

const (
	data   what = 1
	echo   what = 2 // to be answered with a packet of the same length
	answer what = 3
	knock  what = 4 // shows the server a flow's port; answered by known
	known  what = 5
)

// header of a packet.
type header struct {
	What                     what
	Flow                     uint16
	Trial                    uint32
	Seq                      uint64
	Sent, Received, Answered int64
}

// put writes a header; b has at least headerLen bytes, an answer's answerLen.
func (h header) put(b []byte, tag [tagLen]byte) {
	copy(b, tag[:])
	b[8], b[9] = byte(h.What), 0
	binary.BigEndian.PutUint16(b[10:], h.Flow)
	binary.BigEndian.PutUint32(b[12:], h.Trial)
	binary.BigEndian.PutUint64(b[16:], h.Seq)
	binary.BigEndian.PutUint64(b[24:], uint64(h.Sent))
	if h.What == answer {
		binary.BigEndian.PutUint64(b[32:], uint64(h.Received))
		binary.BigEndian.PutUint64(b[40:], uint64(h.Answered))
	}
}

// parseHeader reads a packet of the session; anything else is not ok.
func parseHeader(b []byte, tag [tagLen]byte) (h header, ok bool) {
	if len(b) < headerLen || [tagLen]byte(b[:tagLen]) != tag || b[9] != 0 {
		return h, false
	}
	h = header{
		What: what(b[8]), Flow: binary.BigEndian.Uint16(b[10:]), Trial: binary.BigEndian.Uint32(b[12:]),
		Seq: binary.BigEndian.Uint64(b[16:]), Sent: int64(binary.BigEndian.Uint64(b[24:])),
	}
	if h.What < data || h.What > known {
		return header{}, false
	}
	if h.What == echo || h.What == answer {
		if len(b) < answerLen {
			return header{}, false
		}
		h.Received, h.Answered = int64(binary.BigEndian.Uint64(b[32:])), int64(binary.BigEndian.Uint64(b[40:]))
	}
	return h, true
}
