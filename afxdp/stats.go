package afxdp

import "fmt"

// Stats are a socket's counters since it was opened.
type Stats struct {
	// Counted by the kernel (XDP_STATISTICS).
	RxNoFrame     uint64 // packets dropped: no frame to receive into, or longer than a frame
	RxRingFull    uint64 // packets dropped: the RX ring was full
	FillRingEmpty uint64 // times the kernel wanted a frame and the fill ring was empty
	FillInvalid   uint64 // frames in the fill ring that the kernel refused
	TxInvalid     uint64 // descriptors in the TX ring that the kernel refused
	TxRingEmpty   uint64 // times the kernel looked for more to send and there was nothing

	// Counted here.
	Kicks       uint64 // system calls to send
	Wakes       uint64 // system calls to receive
	TxAgain     uint64 // Kicks that left packets in the TX ring: no room further on
	TxDropped   uint64 // packets that the interface dropped (EBUSY)
	TxNoBuffers uint64 // Kicks that left packets in the TX ring: no memory in the kernel
	TxRefused   uint64 // descriptors that Send refused, as the kernel would
}

// Stats reads the counters. Any goroutine may call it, until Close.
func (s *Socket) Stats() (Stats, error) {
	fd := s.fd
	if fd < 0 {
		return Stats{}, ErrClosed
	}
	kernel, err := statistics(fd)
	if err != nil {
		return Stats{}, fmt.Errorf("statistics of ifindex %d queue %d: %w", s.options.Ifindex, s.options.Queue, err)
	}
	return Stats{
		RxNoFrame:     kernel.Rx_dropped,
		RxRingFull:    kernel.Rx_ring_full,
		FillRingEmpty: kernel.Rx_fill_ring_empty_descs,
		FillInvalid:   kernel.Rx_invalid_descs,
		TxInvalid:     kernel.Tx_invalid_descs,
		TxRingEmpty:   kernel.Tx_ring_empty_descs,
		Kicks:         s.kicks.Load(),
		Wakes:         s.wakes.Load(),
		TxAgain:       s.again.Load(),
		TxDropped:     s.busy.Load(),
		TxNoBuffers:   s.noBuffers.Load(),
		TxRefused:     s.refused.Load(),
	}, nil
}
