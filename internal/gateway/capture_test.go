package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// capture collects what a gateway captures. The taps are in place when it returns; end waits for the last packet.
func (s *site) capture(t *testing.T, r *sluicev1.CaptureRequest) (end func() []*sluicev1.CapturedPacket) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := s.client().Capture(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	done := make(chan []*sluicev1.CapturedPacket, 1)
	go func() {
		var all []*sluicev1.CapturedPacket
		for stream.Receive() {
			all = append(all, stream.Msg().GetPackets()...)
		}
		if err := stream.Err(); err != nil && ctx.Err() == nil {
			t.Errorf("gateway %d: capture: %v", s.number, err)
		}
		stream.Close()
		done <- all
	}()
	return func() []*sluicev1.CapturedPacket {
		select {
		case all := <-done:
			return all
		case <-time.After(20 * time.Second):
			t.Fatalf("gateway %d: the capture does not end", s.number)
			return nil
		}
	}
}

// echoes lists "stage direction src>dst" of the pings among the packets that are not encrypted.
func echoes(packets []*sluicev1.CapturedPacket) (out []string) {
	for _, p := range packets {
		link := gopacket.Decoder(layers.LinkTypeEthernet)
		if p.GetBare() {
			link = layers.LinkTypeRaw
		}
		parsed := gopacket.NewPacket(p.GetData(), link, gopacket.Default)
		if parsed.Layer(layers.LayerTypeICMPv4) != nil {
			flow := parsed.NetworkLayer().NetworkFlow()
			out = append(out, fmt.Sprintf("%v %v>%v", p.GetStage(), flow.Src(), flow.Dst()))
		}
	}
	return out
}

// TestACaptureFollowsAPing: one ping is seen at each stage of both gateways, as bytes that somebody else's parser takes;
// one that has no way is seen dropped, with its verdict; and the log says who looked.
func TestACaptureFollowsAPing(t *testing.T) {
	_, sites := newSites(t)
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 1)
	var ends [2]func() []*sluicev1.CapturedPacket
	for i, s := range sites {
		ends[i] = s.capture(t, &sluicev1.CaptureRequest{Duration: durationpb.New(3 * time.Second), Filter: "for the log"})
	}
	if err := netnstest.Ping(t.Context(), sites[0].host, sites[1].addr4(), netnstest.PingOptions{Count: 1, All: true}); err != nil {
		t.Fatal(err)
	}
	near, far := ends[0](), ends[1]()
	there, back := "172.16.1.10>172.16.2.10", "172.16.2.10>172.16.1.10"
	for _, c := range []struct {
		name string
		got  []string
		want []string
	}{
		{"near", echoes(near), []string{"CAPTURE_STAGE_SITE_IN " + there, "CAPTURE_STAGE_PLAIN " + there, "CAPTURE_STAGE_PLAIN " + back, "CAPTURE_STAGE_TO_SITE " + back}},
		{"far", echoes(far), []string{"CAPTURE_STAGE_PLAIN " + there, "CAPTURE_STAGE_TO_SITE " + there, "CAPTURE_STAGE_SITE_IN " + back, "CAPTURE_STAGE_PLAIN " + back}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s gateway:\n got %q\nwant %q", c.name, c.got, c.want)
		}
	}
	for i, all := range [][]*sluicev1.CapturedPacket{near, far} {
		sealed := make(map[sluicev1.CaptureStage]int)
		for _, p := range all {
			switch s := p.GetStage(); s {
			case sluicev1.CaptureStage_CAPTURE_STAGE_SEALED, sluicev1.CaptureStage_CAPTURE_STAGE_WAN_IN:
				sealed[s]++
				if p.GetPort() != "wan0" || p.GetBare() {
					t.Errorf("gateway %d: %v on port %q", i+1, s, p.GetPort())
				}
			case sluicev1.CaptureStage_CAPTURE_STAGE_PLAIN:
				if p.GetVpc() != "default" || !p.GetBare() {
					t.Errorf("gateway %d: plain packet of VPC %q, bare %v", i+1, p.GetVpc(), p.GetBare())
				}
			}
		}
		if sealed[sluicev1.CaptureStage_CAPTURE_STAGE_SEALED] == 0 || sealed[sluicev1.CaptureStage_CAPTURE_STAGE_WAN_IN] == 0 {
			t.Errorf("gateway %d: %v", i+1, sealed)
		}
	}

	// A ping whose TTL ends here is dropped, and says why.
	end := sites[0].capture(t, &sluicev1.CaptureRequest{Stages: []sluicev1.CaptureStage{sluicev1.CaptureStage_CAPTURE_STAGE_DROPPED}, MaxPackets: 1, Duration: durationpb.New(10 * time.Second)})
	ping := sites[0].host.Command(t.Context(), "ping", "-n", "-c", "1", "-W", "2", "-t", "1", sites[1].addr4().String())
	if err := ping.Run(); err == nil {
		t.Error("a ping with TTL 1 was answered")
	}
	dropped := end()
	if len(dropped) != 1 || dropped[0].GetVerdict() != "ttl_expired" || dropped[0].GetExplanation() == "" || !slices.Equal(echoes(dropped), []string{"CAPTURE_STAGE_DROPPED " + there}) {
		t.Errorf("dropped: %v", dropped)
	}

	sites[0].eventually(t, "the log tells of the capture", func() error {
		text, err := os.ReadFile(sites[0].log.Name())
		if err == nil && (!strings.Contains(string(text), "capture begins") || !strings.Contains(string(text), `filter="for the log"`) || !strings.Contains(string(text), fmt.Sprintf("uid %d, pid %d", os.Getuid(), os.Getpid()))) {
			err = errors.New("it does not")
		}
		return err
	})
}

// TestACaptureUnderLoadLosesNoPing: with a client that takes nothing, all traffic still crosses.
func TestACaptureUnderLoadLosesNoPing(t *testing.T) {
	_, sites := newSites(t)
	for _, s := range sites {
		s.start(t)
	}
	reach(t, sites, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := sites[0].client().Capture(ctx, &sluicev1.CaptureRequest{SnapLength: 16384}) // the smallest ring
	if err != nil || !stream.Receive() {
		t.Fatal(err, stream.Err())
	}
	for i, s := range sites {
		if err := netnstest.Ping(t.Context(), s.host, sites[1-i].addr4(), netnstest.PingOptions{Count: 3000, All: true}); err != nil {
			t.Error(err)
		}
	}
	cancel()
	stream.Close()
	sites[0].eventually(t, "the tap is gone", func() error {
		text, err := os.ReadFile(sites[0].log.Name())
		if err == nil && !strings.Contains(string(text), "capture ends") {
			err = errors.New("the capture goes on")
		}
		return err
	})
}
