package gate

import (
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
)

// TestAnOpenGateAllocatesNothing passes frames through, each way and in each mode,
// and counts what the whole process allocates meanwhile.
func TestAnOpenGateAllocatesNothing(t *testing.T) {
	const warm, frames = 200, 2000
	for _, c := range []struct {
		name string
		set  func(*wire)
		send func(*wire, []byte) error
		done func(*wire) uint64
	}{
		{"output passes", func(w *wire) { w.Pass() },
			func(w *wire, b []byte) error { return w.guest.send(b) },
			func(w *wire) uint64 { return w.Stats().Released }},
		{"output is held and released", func(w *wire) { w.Hold() },
			func(w *wire, b []byte) error { return w.guest.send(b) },
			func(w *wire) uint64 {
				w.epoch++
				w.Cut(w.epoch)
				w.Release(w.epoch, time.Now().Add(time.Hour))
				return w.Stats().Released
			}},
		{"input is handed in", func(w *wire) { w.OpenInput() },
			func(w *wire, b []byte) error { return w.network.send(b) },
			func(w *wire) uint64 { return w.Stats().InputDelivered }},
		{"input is logged", func(w *wire) { w.OpenInput(); w.StartLog(LogAsync, 1<<20) },
			func(w *wire, b []byte) error { return w.network.send(b) },
			func(w *wire) uint64 {
				w.TakeLog(func(Frame) bool { return true })
				return w.Stats().InputDelivered
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t, Options{})
			c.set(w)
			b, total := frame(guestMAC, 1), uint64(0)
			pass := func(n int) {
				for range n {
					if err := c.send(w, b); err != nil {
						t.Fatal(err)
					}
					total++
					if total%50 == 0 {
						netns.Eventually(t, "frames pass", func() bool { return c.done(w) == total })
					}
				}
			}
			pass(warm)
			// The closures of a cut, and the runtime's own, are not a frame's. The test's
			// own waiting allocates where the machine is busy; a gate that does always does.
			least := uint64(math.MaxUint64)
			for range 3 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				pass(frames)
				runtime.ReadMemStats(&after)
				least = min(least, after.Mallocs-before.Mallocs)
			}
			if least > frames/20 {
				t.Errorf("%d allocations for %d frames", least, frames)
			}
		})
	}
}
