package daemon

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// A standby tells its primary how its uplinks and taps are, so that a machine that is well
// is not moved to where its packets are lost. A primary that fails is taken over all the same.

// tellPorts tells the primary of the ports here, at once and whenever one has changed,
// until the standby's part or the link ends.
func (s *standby) tellPorts() {
	for {
		if err := s.link.Send(replica.Header{Type: replica.TypePorts}, portsOf(s.g.gate.Links()).Append(nil)); err != nil {
			return // the end of the link has its own event
		}
		select {
		case <-s.links:
		case <-s.ctx.Done():
			return
		case <-s.link.Done():
			return
		}
	}
}

// portsOf a gate, whose links are each port's uplink and its tap.
func portsOf(links []gate.Link) (ports replica.Ports) {
	for i := 0; i+1 < len(links); i += 2 {
		ports = append(ports, replica.Port{Uplink: endOf(links[i]), Tap: endOf(links[i+1])})
	}
	return ports
}

func endOf(l gate.Link) replica.End {
	return replica.End{State: l.State, Millis: uint64(time.Since(l.Since).Milliseconds())}
}

// linkChanged has the primary told.
func (s *standby) linkChanged() {
	select {
	case s.links <- struct{}{}:
	default:
	}
}

// learnPorts notes how the standby's uplinks and taps are.
func (p *protection) learnPorts(payload []byte) error {
	ports, err := replica.DecodePorts(payload)
	if err != nil {
		return err
	}
	known := p.g.spec.Ports
	if len(ports) != len(known) {
		return fmt.Errorf("the standby tells of %d ports of a machine that has %d", len(ports), len(known))
	}
	var there []gate.Link
	for i, port := range ports {
		there = append(there, linkThere(known[i], port.Uplink, false), linkThere(known[i], port.Tap, true))
	}
	p.g.setLinksThere(there)
	return nil
}

func linkThere(port spec.Port, end replica.End, tap bool) gate.Link {
	l := gate.Link{Port: port.Name, Name: port.Uplink, Tap: tap, State: end.State, Since: time.Now().Add(-time.Duration(end.Millis) * time.Millisecond)}
	if tap {
		l.Name = port.Tap
	}
	return l
}

// fitsThere says why the machine should not move to its standby now, and what to do.
func (g *guest) fitsThere() error {
	if l, worse := worseThere(g.gate.Links(), g.linksThere()); worse {
		return fmt.Errorf("the %s %s of port %s on host %s has been %s for %v: the machine's packets would be lost there; %s",
			l.Kind(), l.Name, l.Port, g.state.Peer(), inWords(l.State), time.Since(l.Since).Round(time.Second), remedyThere(g.name, g.state.Peer(), l))
	}
	return nil
}

// worseThere finds a link for which the machine would lose by a move: of a port that carries
// its packets here and does not there, or of one that never will there, and may here.
func worseThere(here, there []gate.Link) (_ gate.Link, worse bool) {
	cut, ended := map[string]bool{}, map[string]bool{} // ports here: now, for good
	for _, l := range here {
		cut[l.Port] = cut[l.Port] || !l.Up()
		ended[l.Port] = ended[l.Port] || l.Tap && l.Gone()
	}
	for _, l := range there {
		if l.Tap && l.Gone() && !ended[l.Port] || !l.Up() && !cut[l.Port] {
			return l, true
		}
	}
	return gate.Link{}, false
}

// thereWarnings are about uplinks and taps of the standby.
func (g *guest) thereWarnings() (w []string) {
	if role, _ := g.state.Role(); role != pair.Protected {
		return nil
	}
	for _, l := range g.linksThere() {
		if !l.Up() {
			w = append(w, fmt.Sprintf("the standby's %s %s of port %s has been %s for %v: a takeover there would lose its packets; %s",
				l.Kind(), l.Name, l.Port, inWords(l.State), time.Since(l.Since).Round(time.Second), remedyThere(g.name, g.state.Peer(), l)))
		}
	}
	return w
}

// remedyThere: a QEMU cannot take another tap than the one it was started with.
func remedyThere(machine, peer string, l gate.Link) string {
	if l.Tap && l.Gone() {
		return fmt.Sprintf("\"hostd unprotect %s\", and protect it again", machine)
	}
	return "mend it on host " + peer
}

func (g *guest) setLinksThere(all []gate.Link) { g.there.Store(&all) }

// linksThere are the standby's of each port, as it has told last; none if it has not.
func (g *guest) linksThere() []gate.Link {
	if all := g.there.Load(); all != nil {
		return *all
	}
	return nil
}
