package nemesis

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// place is what a host has of the machine.
type place struct {
	answers bool
	role    string // empty: nothing
	wanted  string // the standby that it waits for; empty: none
	qemu    bool   // a process of it lives
	ends    bool   // the protection, or the machine, by a wish that the arbiter has not answered
	stuck   bool   // an earlier daemon left it, and this one tries no more to adopt it
}

// step towards a whole pair.
type step int

const (
	wait      step = iota // it gets there by itself
	whole                 // it is there
	startIt               // nothing is left of the machine
	protectIt             // it runs alone and waits for no standby: an operator's wish, or one that failed
	clearIt               // its QEMU has ended, and only the name is left; or it is stuck, and was to be stopped or started elsewhere
	adoptIt               // it is stuck
)

// next step, and the host that does it. Only where an operator has acted does another
// have to: else the pair comes back by itself.
func next(places [2]place, operator bool) (step, int) {
	for i, p := range places {
		if p.role == "protected" && !p.ends && places[1-i].role == "standby" {
			return whole, i
		}
	}
	for i, p := range places {
		if p.stuck && places[1-i].answers && places[1-i].role == "" {
			if operator { // nobody knows what became of the wish
				return clearIt, i
			}
			return adoptIt, i
		}
	}
	if !operator || !places[0].answers || !places[1].answers {
		return wait, 0
	}
	for i, p := range places {
		other := places[1-i]
		switch {
		case p.role == "" && other.role == "" && !p.qemu && !other.qemu:
			return startIt, 0
		case (p.role == "unprotected" || p.role == "solo" && p.wanted == "") && p.qemu && other.role == "":
			return protectIt, i
		case (p.role == "unprotected" || p.role == "solo" || p.role == "fenced") && !p.qemu && other.role == "":
			return clearIt, i
		}
	}
	return wait, 0
}

// restored waits until the pair is whole again, and does for it what its operator has
// to do after a wish in the midst of faults. Two of them at once may have cost the
// machine: it is started again then.
func (n *nemesis) restored(ctx context.Context, w *wish) error {
	ctx, cancel := context.WithTimeout(ctx, n.Pace.Limit(backLimit))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		todo, on := next(n.places(ctx), w != nil)
		if todo == whole {
			return n.judgeSilence(ctx)
		}
		if err := n.help(ctx, todo, n.Hosts[on], w); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", n.roles(context.WithoutCancel(ctx)), ctx.Err())
		}
	}
}

// help does one step. What fails is tried again.
func (n *nemesis) help(ctx context.Context, todo step, h *lab.Host, w *wish) error {
	switch todo {
	case startIt:
		if err := n.judgeLife(ctx); err != nil {
			return err
		}
		if err := n.judgeSilence(ctx); err != nil {
			return err
		}
		n.report.Anew++
		wished := n.Host(w.on)
		startSomewhere(wished, n.other(wished), func(h *lab.Host) error { return n.startMachine(ctx, h) })
	case protectIt:
		h.Protect(ctx, scene.Machine, n.other(h).Name)
	case clearIt:
		h.StopMachine(ctx, scene.Machine)
	case adoptIt:
		n.adopt(ctx, h)
	}
	return nil
}

func (n *nemesis) other(h *lab.Host) *lab.Host {
	if n.Hosts[0] == h {
		return n.Hosts[1]
	}
	return n.Hosts[0]
}

// adopt is what an operator does about a machine that the daemon has left alone: it has
// to go on with its memory.
func (n *nemesis) adopt(ctx context.Context, h *lab.Host) {
	before, err := h.QEMUPid(scene.Machine)
	if err != nil {
		return
	}
	m, err := h.StartMachine(ctx, n.NAT())
	if err == nil && m.QemuPid != int64(before) {
		n.find(n.now, "host %s was to go on with the QEMU of process %d, and runs process %d", h.Name, before, m.QemuPid)
	}
}

func (n *nemesis) places(ctx context.Context) [2]place {
	return [2]place{n.place(ctx, n.Hosts[0]), n.place(ctx, n.Hosts[1])}
}

func (n *nemesis) place(ctx context.Context, h *lab.Host) place {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	m, err := h.Machine(ctx, scene.Machine)
	_, gone := h.QEMU(scene.Machine)
	p := place{answers: err == nil, qemu: gone == nil}
	if m != nil {
		p.role, p.wanted = m.Role, m.WantedStandby
		warnings := strings.Join(m.Warnings, "\n")
		p.ends = m.Role == "protected" && m.WantedStandby == "" || strings.Contains(warnings, "is being stopped")
		p.stuck = m.Role == "left" && strings.Contains(warnings, "is not tried again")
	}
	return p
}
