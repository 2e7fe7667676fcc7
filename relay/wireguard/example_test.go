package wireguard_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// Two gateways in one process, whose engines hand each other their datagrams.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	at := [2]wireguard.Endpoint{
		{Remote: netip.MustParseAddrPort("192.0.2.1:51820")},
		{Remote: netip.MustParseAddrPort("192.0.2.2:51820")},
	}
	var devices [2]*wireguard.Device
	var peers [2]*wireguard.Peer // the other one, as each sees it
	for i := range devices {
		key, err := wireguard.NewPrivateKey()
		if err != nil {
			panic(err)
		}
		devices[i], err = wireguard.New(wireguard.Options{PrivateKey: key, Send: func(dg wireguard.Datagram) {
			other := devices[1-i]
			if !other.Receive(dg.Data, at[i]) { // not a handshake message: a keepalive
				batch := other.NewBatch()
				batch.Locate = wireguard.AllFrom(at[i])
				batch.Open([]wireguard.Packet{{Buf: dg.Data}}, other.Clock())
			}
		}})
		if err != nil {
			panic(err)
		}
	}
	done := make(chan error)
	for i, d := range devices {
		var err error
		peers[i], err = d.SetPeer(wireguard.PeerConfig{PublicKey: devices[1-i].PublicKey(), Endpoint: at[1-i]})
		if err != nil {
			panic(err)
		}
	}
	for _, d := range devices {
		go func() { done <- d.Run(ctx) }()
	}

	// A worker of the first one seals a packet in its frame. The first attempt
	// makes the session, so the packet waits.
	frame := make([]byte, 2048)
	n := copy(frame[128:], "a packet")
	batch := devices[0].NewBatch()
	pkts := make([]wireguard.Packet, 1)
	for {
		epoch := devices[0].Epoch()
		pkts[0] = wireguard.Packet{Buf: frame[128-wireguard.HeaderSize : 128+n], Peer: peers[0]}
		batch.Seal(pkts, devices[0].Clock())
		if pkts[0].Result != wireguard.NoSession {
			break
		}
		for devices[0].Epoch() == epoch {
			time.Sleep(time.Millisecond)
		}
	}
	fmt.Println("sealed:", pkts[0].Result, len(pkts[0].Buf), "bytes")

	// A worker of the second one opens it.
	batch = devices[1].NewBatch()
	batch.Locate = wireguard.AllFrom(at[0])
	batch.Open(pkts, devices[1].Clock())
	fmt.Printf("opened: %v %q\n", pkts[0].Result, pkts[0].Buf)

	cancel()
	<-done
	<-done
	// Output:
	// sealed: ok 48 bytes
	// opened: ok "a packet\x00\x00\x00\x00\x00\x00\x00\x00"
}
