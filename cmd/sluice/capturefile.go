package main

import (
	"io"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// captureWriter writes captured packets as pcapng: an interface for every stage
// with its port or VPC, of the link type that the packets have there.
type captureWriter struct {
	out        io.Writer
	ng         *pcapgo.NgWriter // nil before the first packet
	section    pcapgo.NgSectionInfo
	filter     string
	interfaces map[captureInterface]int
	packets    int
}

type captureInterface struct {
	name string
	bare bool
}

func newCaptureWriter(out io.Writer, s *sluicev1.StatusResponse, filter string) *captureWriter {
	return &captureWriter{out: out, filter: filter, interfaces: make(map[captureInterface]int), section: pcapgo.NgSectionInfo{
		Application: "sluice " + s.GetVersion(), Comment: "gateway " + s.GetGateway() + " at site " + s.GetSite(), OS: "Linux",
	}}
}

// interfaceOf names the interface of a packet: "plain red", "sealed wan0".
func interfaceOf(p *sluicev1.CapturedPacket) captureInterface {
	name := stageWord(p.GetStage())
	switch {
	case p.GetBare() && p.GetVpc() != "":
		name += " " + p.GetVpc()
	case p.GetPort() != "":
		name += " " + p.GetPort()
	}
	return captureInterface{name, p.GetBare()}
}

func (c *captureWriter) write(p *sluicev1.CapturedPacket) error {
	index, err := c.index(interfaceOf(p))
	if err != nil {
		return err
	}
	c.packets++
	options := pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionOutbound}}
	if p.GetInbound() {
		options.Flags.Direction = pcapgo.NgEpbFlagDirectionInbound
	}
	if p.GetVerdict() != "" {
		options.Comments = []string{p.GetVerdict() + ": " + p.GetExplanation()}
	}
	return c.ng.WritePacketWithOptions(gopacket.CaptureInfo{
		Timestamp: p.GetTime().AsTime(), CaptureLength: len(p.GetData()), Length: int(p.GetLength()), InterfaceIndex: index,
	}, p.GetData(), options)
}

// index returns the number of an interface, and adds it when it is new.
func (c *captureWriter) index(i captureInterface) (int, error) {
	if index, ok := c.interfaces[i]; ok {
		return index, nil
	}
	ng := pcapgo.NgInterface{Name: i.name, Filter: c.filter, OS: "Linux", LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}
	if i.bare {
		ng.LinkType = layers.LinkTypeRaw
	}
	if c.ng == nil { // a file begins with an interface
		var err error
		if c.ng, err = pcapgo.NewNgWriterInterface(c.out, ng, pcapgo.NgWriterOptions{SectionInfo: c.section}); err != nil {
			return 0, err
		}
		c.interfaces[i] = 0
		return 0, nil
	}
	index, err := c.ng.AddInterface(ng)
	if err == nil {
		c.interfaces[i] = index
	}
	return index, err
}

// flush writes what there is.
func (c *captureWriter) flush() error {
	if c.ng == nil {
		return nil
	}
	return c.ng.Flush()
}

// end flushes. A capture without a packet is a file with an interface, and not an
// empty file, which no reader takes.
func (c *captureWriter) end() error {
	if c.ng == nil {
		if _, err := c.index(captureInterface{name: "nothing"}); err != nil {
			return err
		}
	}
	return c.flush()
}
