package warning

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// LinkEvent tells that one end of a port's wire carries nothing, or does again.
func LinkEvent(machine string, role pair.Role, l gate.Link) status.Event {
	switch {
	case l.Tap && l.Up():
		return status.Event{Kind: status.TapBack, Message: fmt.Sprintf("port %s: tap %s is up and used again", l.Port, l.Name)}
	case l.Tap:
		return status.Event{Kind: status.TapLost, Message: fmt.Sprintf("port %s: tap %s is %s: %s", l.Port, l.Name, l.State, tapEffect(machine, role, l))}
	case l.Up():
		return status.Event{Kind: status.UplinkBack, Message: fmt.Sprintf("port %s: uplink %s is up and used again", l.Port, l.Name)}
	}
	return status.Event{Kind: status.UplinkLost, Message: fmt.Sprintf("port %s: uplink %s is %s: nothing leaves or arrives by it; it is used again as soon as it is back under its name", l.Port, l.Name, inWords(l.State))}
}

// tapEffect says what a tap that carries nothing does to the guest's card, and what to do.
func tapEffect(machine string, role pair.Role, l gate.Link) string {
	cut, remedy := "the guest's card is cut off here", fmt.Sprintf("protect the machine and move it with \"hostd switchover %s\", or stop and start it", machine)
	switch role {
	case pair.Protected:
		remedy = fmt.Sprintf("move the machine with \"hostd switchover %s\", or stop and start it", machine)
	case pair.Standby:
		cut, remedy = "after a takeover the guest's card would be cut off here", fmt.Sprintf("\"hostd unprotect %s\" where the machine runs, and protect it again", machine)
	}
	if !l.Gone() {
		remedy = fmt.Sprintf("\"ip link set %s up\"", l.Name)
	}
	return cut + "; " + remedy
}

func inWords(state string) string {
	if state == "no carrier" {
		return "without a carrier"
	}
	return state
}

func linkWarning(machine string, role pair.Role, l gate.Link) string {
	effect := "nothing leaves or arrives by it"
	if l.Tap {
		effect = tapEffect(machine, role, l)
	}
	return fmt.Sprintf("port %s: %s %s has been %s for %v: %s", l.Port, l.Kind(), l.Name, inWords(l.State), time.Since(l.Since).Round(time.Second), effect)
}

func lossWarnings(s gate.Stats) (w []string) {
	if s.Lost > 0 {
		w = append(w, fmt.Sprintf("%d frames of output were lost at an uplink: it was down, took fewer than the machine sends, or refused them", s.Lost))
	}
	if s.Uncarried > 0 {
		w = append(w, fmt.Sprintf("%d frames that stand for many segments were lost because the gate cannot cut their kind: switch that segmentation offload off where they come from (docs/machine.md)", s.Uncarried))
	}
	return w
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

// FitsThere says why a machine should not move to its standby now, and what to do. Links are
// those here and there.
func FitsThere(machine, peer string, here, there []gate.Link) error {
	if l, worse := worseThere(here, there); worse {
		return fmt.Errorf("the %s %s of port %s on host %s has been %s for %v: the machine's packets would be lost there; %s",
			l.Kind(), l.Name, l.Port, peer, inWords(l.State), time.Since(l.Since).Round(time.Second), remedyThere(machine, peer, l))
	}
	return nil
}

// ofThere are about uplinks and taps of the standby.
func ofThere(f Facts) (w []string) {
	if f.Role != pair.Protected {
		return nil
	}
	for _, l := range f.There {
		if !l.Up() {
			w = append(w, fmt.Sprintf("the standby's %s %s of port %s has been %s for %v: a takeover there would lose its packets; %s",
				l.Kind(), l.Name, l.Port, inWords(l.State), time.Since(l.Since).Round(time.Second), remedyThere(f.Name, f.Peer, l)))
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
