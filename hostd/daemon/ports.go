package daemon

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// A standby tells its primary how its uplinks are, so that a machine that is well is not
// moved to where its packets are lost. A primary that fails is taken over all the same.

// tellPorts tells the primary of the uplinks here, at once and whenever one has changed,
// until the standby's part or the link ends.
func (s *standby) tellPorts() {
	for {
		var ports replica.Ports
		for _, l := range s.g.gate.Links() {
			if !l.Tap {
				ports = append(ports, replica.Port{State: l.State, Millis: uint64(time.Since(l.Since).Milliseconds())})
			}
		}
		if err := s.link.Send(replica.Header{Type: replica.TypePorts}, ports.Append(nil)); err != nil {
			return // the end of the link has its own event
		}
		select {
		case <-s.uplinks:
		case <-s.ctx.Done():
			return
		case <-s.link.Done():
			return
		}
	}
}

// uplinkChanged has the primary told.
func (s *standby) uplinkChanged() {
	select {
	case s.uplinks <- struct{}{}:
	default:
	}
}

// learnPorts notes how the standby's uplinks are.
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
		since := time.Now().Add(-time.Duration(port.Millis) * time.Millisecond)
		there = append(there, gate.Link{Port: known[i].Name, Name: known[i].Uplink, State: port.State, Since: since})
	}
	p.g.board.setUplinksThere(there)
	return nil
}

// fitsThere says why the machine should not move to its standby now: a port that carries
// its packets here does not there.
func (g *guest) fitsThere() error {
	cut := map[string]bool{} // ports that carry nothing here either
	for _, l := range g.gate.Links() {
		cut[l.Port] = cut[l.Port] || !l.Up()
	}
	for _, u := range g.board.uplinksThere() {
		if !u.Up() && !cut[u.Port] {
			return fmt.Errorf("the uplink %s of port %s on host %s has been %s for %v: the machine's packets would be lost there",
				u.Name, u.Port, g.board.peer(), inWords(u.State), time.Since(u.Since).Round(time.Second))
		}
	}
	return nil
}

// thereWarnings are about uplinks of the standby.
func (g *guest) thereWarnings() (w []string) {
	if role, _ := g.board.role(); role != string(pair.Protected) {
		return nil
	}
	for _, u := range g.board.uplinksThere() {
		if !u.Up() {
			w = append(w, fmt.Sprintf("the standby's uplink %s of port %s has been %s for %v: a takeover there would lose its packets; mend it on host %s",
				u.Name, u.Port, inWords(u.State), time.Since(u.Since).Round(time.Second), g.board.peer()))
		}
	}
	return w
}

func (b *board) setUplinksThere(all []gate.Link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.there = all
}

// uplinksThere are the standby's of each port, as it has told last; none if it has not.
func (b *board) uplinksThere() []gate.Link {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.there
}
