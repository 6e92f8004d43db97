package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
)

// TestAClaimThatLandsLate: the standby's daemon has died with a takeover on its way,
// which lands long after the next daemon has begun. The old primary has just asked.
func TestAClaimThatLandsLate(t *testing.T) {
	for seed := range uint64(10) {
		p := newPlan(seed + 1)
		p.hosts, p.spares, p.steps = []string{"a", "b"}, false, nil
		add := func(after time.Duration, what string, do func(*world)) {
			p.steps = append(p.steps, step{after, what, do})
		}
		add(0, "start on a", func(w *world) { _ = w.host("a").startMachine() })
		add(0, "protect by b", func(w *world) { _ = w.host("a").protect("b", true) })
		add(300*time.Millisecond, "the story", func(w *world) {
			w.host("a").set(&trap{fault.Committing, 0, func(*incarnation) {
				b := w.host("b").current()
				stands := w.arbiter.stands(machineName)
				w.tasks.Go(func() {
					w.loses()
					w.arbiter.change("a", func(r *reach) { r.slow = 200 * time.Millisecond })
					w.host("b").crash(10*time.Millisecond, false)
					time.Sleep(1510 * time.Millisecond)
					_, err := w.arbiter.land(b, stands.Generation, arbiter.Record{Machine: machineName, Generation: stands.Generation + 1, Voice: "b", Kind: "takeover"})
					w.log("the late claim landed: %v", err)
					w.tasks.Go(func() { w.log("start on b: %v", w.host("b").startMachine()) })
					time.Sleep(time.Second)
					w.arbiter.change("a", func(r *reach) { r.slow = 0 })
				})
				w.rest(1300 * time.Millisecond)
			}})
		})
		add(4*time.Second, "over", func(*world) {})
		if w, findings := run(t, p, true); len(findings) > 0 {
			t.Fatalf("seed %d: %s\n%s", seed+1, strings.Join(findings, "; "), strings.Join(last(w.trace, 90), "\n"))
		}
	}
}
