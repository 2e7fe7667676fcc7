package main

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ring's shape: what libpcap takes by default is 2 MiB, ours is as large as the
// gateways' packet memories that it is compared with.
const (
	blockSize  = 1 << 18
	blocks     = 64
	frameSize  = 1 << 11
	retireMsec = 1
)

// ring is a memory-mapped receive ring of an interface (TPACKET_V3, linux/if_packet.h).
type ring struct {
	fd    int
	mem   []byte
	block int // to read next
	to    unix.SockaddrLinklayer
}

func openRing(name string) (*ring, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	protocol := uint16(unix.ETH_P_ALL)<<8 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r := &ring{fd: fd, to: unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Index}}
	if err := r.open(); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return r, nil
}

func (r *ring) open() error {
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return fmt.Errorf("tpacket v3: %w", err)
	}
	// What we send is not to come back.
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("ignore outgoing: %w", err)
	}
	request := unix.TpacketReq3{
		Block_size: blockSize, Block_nr: blocks, Frame_size: frameSize, Frame_nr: blockSize / frameSize * blocks,
		Retire_blk_tov: retireMsec,
	}
	if err := unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request); err != nil {
		return fmt.Errorf("receive ring: %w", err)
	}
	var err error
	if r.mem, err = unix.Mmap(r.fd, 0, blockSize*blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map ring: %w", err)
	}
	if err := unix.Bind(r.fd, &r.to); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// header is struct tpacket_block_desc with its only kind of header.
func (r *ring) header() *unix.TpacketHdrV1 {
	// version and offset_to_priv, two 32-bit words, are in front.
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&r.mem[r.block*blockSize+8]))
}

func (r *ring) empty() bool {
	return atomic.LoadUint32(&r.header().Block_status)&unix.TP_STATUS_USER == 0
}

// read gives the packets of the next full block to f, and the block back to the kernel.
func (r *ring) read(f func([]byte) error) error {
	if r.empty() {
		return nil
	}
	h := r.header()
	at := r.block*blockSize + int(h.Offset_to_first_pkt)
	for range h.Num_pkts {
		p := (*unix.Tpacket3Hdr)(unsafe.Pointer(&r.mem[at]))
		data := at + int(p.Mac)
		if err := f(r.mem[data : data+int(p.Snaplen)]); err != nil {
			return err
		}
		at += int(p.Next_offset)
	}
	atomic.StoreUint32(&h.Block_status, unix.TP_STATUS_KERNEL)
	r.block = (r.block + 1) % blocks
	return nil
}

// write sends a packet. It is lost when the queue is full, the port is down, or the packet is
// longer than the port takes.
func (r *ring) write(packet []byte) error {
	err := unix.Sendto(r.fd, packet, 0, &r.to)
	for _, lost := range []error{unix.ENOBUFS, unix.EAGAIN, unix.ENETDOWN, unix.EMSGSIZE} {
		if errors.Is(err, lost) {
			return nil
		}
	}
	return err
}
