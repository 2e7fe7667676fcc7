package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Frames is a row of whole Ethernet frames that a Generator sends, in the kernel's memory. Generators and sinks that
// were made with it go on when it is closed.
type Frames struct {
	frames  *ebpf.Map
	sentAt  *ebpf.Map // when each was last sent, CLOCK_MONOTONIC
	memory  *ebpf.Memory
	stride  int
	count   int
	longest int           // what there is room for
	lasts   time.Duration // until the last one is due
	entry   []byte        // scratch of put
}

// Frame is one of them.
type Frame struct {
	Data []byte
	At   time.Duration // when it is due after the first, with Options.ByTime
}

// frameHeader is what stands before the data in struct frame of bpf/replay.c.
const frameHeader = 16

// NewFrames copies frames into the kernel.
func NewFrames(frames []Frame) (*Frames, error) {
	longest := 0
	for _, f := range frames {
		longest = max(longest, len(f.Data))
	}
	f, err := newFrames(len(frames), longest)
	if err != nil {
		return nil, err
	}
	for i, frame := range frames {
		if err := f.put(i, frame); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

func newFrames(count, longest int) (*Frames, error) {
	if count < 1 || longest < 14 || longest > maxFrame {
		return nil, fmt.Errorf("frames: %d of up to %d bytes, not at least one of 14 to %d", count, longest, maxFrame)
	}
	f := &Frames{count: count, longest: longest, stride: (frameHeader + longest + 7) &^ 7}
	spec, err := loadReplay()
	if err != nil {
		return nil, err
	}
	f.size(spec)
	if f.frames, err = ebpf.NewMap(spec.Maps[replayMapFrames]); err != nil {
		return nil, fmt.Errorf("%d frames of %d bytes: %w", count, longest, err)
	}
	if f.sentAt, err = ebpf.NewMap(spec.Maps[replayMapSentAt]); err != nil {
		return nil, errors.Join(fmt.Errorf("times of %d frames: %w", count, err), f.frames.Close())
	}
	if f.memory, err = f.frames.Memory(); err != nil {
		return nil, errors.Join(fmt.Errorf("map %d frames: %w", count, err), f.Close())
	}
	return f, nil
}

// size gives maps in a specification the sizes of ours.
func (f *Frames) size(spec *ebpf.CollectionSpec) {
	if m := spec.Maps[replayMapFrames]; m != nil {
		m.MaxEntries, m.ValueSize = uint32(f.count), uint32(f.stride)
		m.Key, m.Value = nil, nil // types of another length
	}
	if m := spec.Maps[replayMapSentAt]; m != nil {
		m.MaxEntries = uint32(f.count)
	}
}

func (f *Frames) put(i int, frame Frame) error {
	if len(frame.Data) < 14 || len(frame.Data) > f.longest {
		return fmt.Errorf("frame %d: %d bytes, not 14 to %d", i, len(frame.Data), f.longest)
	}
	f.lasts = max(f.lasts, frame.At)
	b := binary.NativeEndian.AppendUint64(f.entry[:0], uint64(max(frame.At, 0)))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(frame.Data)))
	b = append(b, 0, 0, 0, 0)
	f.entry = append(b, frame.Data...)
	if _, err := f.memory.WriteAt(f.entry, int64(i)*int64(f.stride)); err != nil {
		return fmt.Errorf("write frame %d: %w", i, err)
	}
	return nil
}

// Len is how many there are.
func (f *Frames) Len() int { return f.count }

// Close releases them.
func (f *Frames) Close() error { return errors.Join(f.frames.Close(), f.sentAt.Close()) }

// ReadPcap reads the frames of a capture file (pcap, Ethernet), with their times after the first.
func ReadPcap(r io.Reader) ([]Frame, error) {
	file, err := pcapgo.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("read pcap: %w", err)
	}
	if file.LinkType() != layers.LinkTypeEthernet {
		return nil, fmt.Errorf("read pcap: link type %v, not Ethernet", file.LinkType())
	}
	var all []Frame
	var first time.Time
	for {
		data, info, err := file.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read pcap, packet %d: %w", len(all), err)
		}
		if info.CaptureLength < info.Length {
			return nil, fmt.Errorf("read pcap, packet %d: %d of %d bytes were captured", len(all), info.CaptureLength, info.Length)
		}
		if len(all) == 0 {
			first = info.Timestamp
		}
		all = append(all, Frame{Data: data, At: info.Timestamp.Sub(first)})
	}
}

// loadFrames loads the program that sends frames.
func (g *Generator) loadFrames() error {
	f := g.options.Frames
	spec, err := loadReplay()
	if err != nil {
		return err
	}
	f.size(spec)
	if err := errors.Join(
		spec.Variables[replayVarIfindex].Set(uint32(g.ifindex)),
		spec.Variables[replayVarTotal].Set(uint32(f.count)),
		spec.Variables[replayVarLongest].Set(uint32(f.longest)),
		spec.Variables[replayVarLoop].Set(boolean(g.options.Loop)),
		spec.Variables[replayVarByTime].Set(boolean(g.options.ByTime)),
	); err != nil {
		return err
	}
	var objs replayObjects
	if err := spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		replayMapFrames: f.frames, replayMapSentAt: f.sentAt,
	}}); err != nil {
		return err
	}
	g.program, g.longest, g.close = objs.Replay, f.longest, objs.Close
	if g.options.ByTime {
		g.rewind = func() error { return set(setting{objs.Position, 0}, setting{objs.RoundBegin, 0}) }
	}
	g.pace = pace{
		duration: objs.Duration, limit: objs.Limit, stop: objs.Stop, interval: objs.Interval, depth: objs.Depth,
		begin: objs.Begin, next: objs.Next, finished: objs.Finished,
		packets: objs.Packets, bytes: objs.replayVariables.Bytes, held: objs.Held, first: objs.First, last: objs.Last,
	}
	return nil
}

func boolean(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
