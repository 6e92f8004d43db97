package daemon

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// uplinkChanged tells that an uplink carries nothing, or does again.
func (g *guest) uplinkChanged(u gate.Uplink) {
	e := &control.Event{Kind: "uplink-lost", Message: fmt.Sprintf("port %s: uplink %s is %s: nothing leaves or arrives by it; it is used again as soon as it is back under its name", u.Port, u.Name, inWords(u.State))}
	if u.Up() {
		e = &control.Event{Kind: "uplink-back", Message: fmt.Sprintf("port %s: uplink %s is up and used again", u.Port, u.Name)}
	}
	g.publish(e)
}

func inWords(state string) string {
	if state == "no carrier" {
		return "without a carrier"
	}
	return state
}

// uplinkWarnings are about what the machine's ports do not carry.
func (g *guest) uplinkWarnings() (w []string) {
	for _, u := range g.gate.Uplinks() {
		if !u.Up() {
			w = append(w, fmt.Sprintf("port %s: uplink %s has been %s for %v: nothing leaves or arrives by it", u.Port, u.Name, inWords(u.State), time.Since(u.Since).Round(time.Second)))
		}
	}
	return append(w, lossWarnings(g.gate.Stats())...)
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
