package traffic

import (
	"errors"
	"io"
	"time"
)

// Frames is a row of whole Ethernet frames that a Generator sends, in the kernel's memory.
type Frames struct{}

// Frame is one of them.
type Frame struct {
	Data []byte
	At   time.Duration // when, after the first one; only replay by time looks at it
}

// NewFrames copies frames into the kernel.
func NewFrames(frames []Frame) (*Frames, error) { return nil, errors.ErrUnsupported }

// ReadPcap reads the frames of a capture file (pcap, Ethernet).
func ReadPcap(r io.Reader) ([]Frame, error) { return nil, errors.ErrUnsupported }

// Len is how many there are.
func (f *Frames) Len() int { return 0 }

// Close releases them. A Generator that was made with them must be closed before.
func (f *Frames) Close() error { return nil }
