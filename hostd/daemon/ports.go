package daemon

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
)

// A standby tells its primary how its uplinks and taps are, so that a machine that is well
// is not moved to where its packets are lost. A primary that fails is taken over all the same.

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
