package daemon

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// linkChanged tells that one end of a port's wire carries nothing, or does again.
func (g *guest) linkChanged(l gate.Link) {
	role, _ := g.state.RoleNow()
	g.publish(linkEvent(g.name, role, l))
	if s := g.asStandby.Load(); s != nil {
		s.LinkChanged()
	}
}

func linkEvent(machine string, role pair.Role, l gate.Link) status.Event {
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

// linkWarnings are about what the machine's ports do not carry.
func (g *guest) linkWarnings(role pair.Role) (w []string) {
	for _, l := range g.gate.Links() {
		if !l.Up() {
			w = append(w, linkWarning(g.name, role, l))
		}
	}
	w = append(w, g.thereWarnings()...)
	return append(w, lossWarnings(g.gate.Stats())...)
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
