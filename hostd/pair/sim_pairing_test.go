package pair_test

import (
	"fmt"
	"testing"

	. "github.com/stillpoint-ft/stillpoint/hostd/pair"
)

// TestBothLostWhilePairing: QEMU ends and the link is lost while the claim that
// names the standby has won and its answer is lost. The standby holds the
// machine, so the primary must leave it to it, and not claim solo because the
// link is gone as well.
func TestBothLostWhilePairing(t *testing.T) {
	faults := map[string]func(a *host){
		"QEMU first": func(a *host) { a.kill(); a.link.cutNow() },
		"link first": func(a *host) { a.link.cutNow(); a.kill() },
	}
	for name, fault := range faults {
		for _, unseen := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,unseen=%v", name, unseen), func(t *testing.T) {
				for seed := range uint64(100) {
					w := newWorld(seed)
					w.loseBothWhilePairing(fault, unseen)
					if w.failure != "" {
						t.Fatalf("%s\nseed %d: %s", w.transcript(), seed, w.failure)
					}
				}
			})
		}
	}
}

// loseBothWhilePairing breaks the pair between the claim and its answer. The
// primary knows of both losses before the answer comes.
func (w *world) loseBothWhilePairing(fault func(a *host), unseen bool) {
	a, b := w.hosts[0], w.hosts[1]
	w.faults = false
	a.start()
	a.post(Protect{b.name})
	for len(w.arbiter.pending) == 0 {
		w.step()
	}
	for len(a.events) > 0 {
		a.next()
	}
	w.tracef("the faults")
	fault(a)
	for len(a.events) > 0 {
		a.next()
	}
	if unseen {
		w.arbiter.lose = 1
	}
	w.arbiter.land(0)
	w.settle()
	if w.failure == "" && !(b.started && b.speaks()) {
		w.failf("the standby held the machine and does not run it: a is %v, b is %v", a.roleNow(), b.roleNow())
	}
}

// cutNow cuts the link; the primary's end notices at once.
func (l *link) cutNow() {
	l.cut = true
	l.notice(0)
}

func (h *host) roleNow() Role {
	if h.machine == nil {
		return ""
	}
	return h.machine.Role()
}
