package hosts

import (
	"net/netip"
	"testing"
	"time"
)

func (b *bed) tell(a string, p Place) { b.Tell(red, []Told{{Addr: ip(a), Place: p}}) }

func TestAHostThatIsToldIsThereAtOnceAndNobodyAsksForIt(t *testing.T) {
	b := newBed(t, nil)
	b.tell("10.1.0.5", at("192.168.0.1", 5))
	b.want("10.1.0.5", at("192.168.0.1", 5))
	b.use("10.1.0.5", 5*time.Second)
	b.pass(2 * time.Minute) // longer than a host lives that says nothing
	b.want("10.1.0.5", at("192.168.0.1", 5))
	if h := b.Hosts("red"); len(h) != 1 || h[0].How != "evpn" || h[0].State != "known" {
		t.Errorf("hosts: %+v", h)
	}
	if c := b.Counters(); c.Questions != 0 || c.Hosts != 1 {
		t.Errorf("counters: %+v", c)
	}
}

func TestWhatIsToldWinsOverWhatIsSeen(t *testing.T) {
	b := newBed(t, nil)
	b.see("10.1.0.5", at("192.168.0.2", 5))
	b.tell("10.1.0.5", at("192.168.0.1", 5))
	b.want("10.1.0.5", at("192.168.0.1", 5))
	b.see("10.1.0.5", at("192.168.0.2", 5))
	b.Saw(&Sighting{Key: key("10.1.0.5"), Place: at("192.168.0.3", 5), Answer: true})
	b.pass(2 * time.Second)
	b.want("10.1.0.5", at("192.168.0.1", 5))
	if c := b.Counters(); c.Overruled != 2 || c.Moves != 1 || c.Conflicts != 0 {
		t.Errorf("counters: %+v", c)
	}
	b.tell("10.1.0.5", at("192.168.0.3", 5)) // it moves when that is told
	b.want("10.1.0.5", at("192.168.0.3", 5))
}

func TestAHostThatIsToldNoMoreIsAskedForLikeAnyOther(t *testing.T) {
	b := newBed(t, func(a *Attachment) { a.Told = append(a.Told, ip("192.168.0.1"), ip("192.168.0.2")) })
	b.answer = func(a netip.Addr) (Place, bool) { return at("192.168.0.2", 5), a == ip("10.1.0.5") }
	b.tell("10.1.0.5", at("192.168.0.1", 5))
	b.tell("10.1.0.5", Place{})
	b.wantNone("10.1.0.5")
	b.use("10.1.0.5", time.Second)
	b.want("10.1.0.5", at("192.168.0.2", 5))
	if h := b.Hosts("red"); len(h) != 1 || h[0].How != "resolved" {
		t.Errorf("hosts: %+v", h)
	}
}

func TestWhatIsToldBeforeItsAttachmentIsThereCountsThen(t *testing.T) {
	b := newBed(t, nil)
	attachment := b.segments[red].Attachment
	b.SetAttachments(nil)
	b.tell("10.1.0.5", at("192.168.0.1", 5))
	b.tell("10.9.0.5", at("192.168.0.1", 6)) // outside
	b.wantNone("10.1.0.5")
	b.SetAttachments([]Attachment{attachment})
	b.want("10.1.0.5", at("192.168.0.1", 5))
	b.wantNone("10.9.0.5")
	attachment.VTEPs = append(attachment.VTEPs, ip("192.168.0.2")) // nobody else any more
	b.SetAttachments([]Attachment{attachment})
	b.wantNone("10.1.0.5")
	b.Unsay(red)
	attachment.VTEPs = nil
	b.SetAttachments([]Attachment{attachment})
	b.wantNone("10.1.0.5")
}

func TestHostsThatAreToldAreNotBoundByWhatMayBeLearned(t *testing.T) {
	b := newBed(t, func(a *Attachment) { a.MaxHosts = 1 })
	b.tell("10.1.0.5", at("192.168.0.1", 5))
	b.tell("10.1.0.6", at("192.168.0.1", 6))
	b.tell("10.1.0.7", at("192.168.0.1", 7))
	b.see("10.1.0.8", at("192.168.0.2", 8)) // none of them makes room
	b.wantNone("10.1.0.8")
	for i, a := range []string{"10.1.0.5", "10.1.0.6", "10.1.0.7"} {
		b.want(a, at("192.168.0.1", byte(5+i)))
	}
}
