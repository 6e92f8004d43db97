package gate

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/hostd/netdev"
)

// TestWhatFindsTheSocketFullIsCounted: nobody receives for a while, as when the daemon
// gets no processor.
func TestWhatFindsTheSocketFullIsCounted(t *testing.T) {
	const frames = 200
	for _, c := range []struct {
		name             string
		receives         func(w *wire) Wire
		lock, unlock     func(w *wire)
		send             func(w *wire)
		through, dropped func(s Stats) uint64
	}{
		{"sent by the guest", func(w *wire) Wire { return w.ports[0].tap.(*netdev.Tap).Socket },
			func(w *wire) { w.out.Lock() }, func(w *wire) { w.out.Unlock() },
			func(w *wire) { w.send(t, w.guest, guestMAC, 1, frames) },
			func(s Stats) uint64 { return s.Released }, func(s Stats) uint64 { return s.Dropped }},
		{"for the guest", func(w *wire) Wire { return w.ports[0].uplink },
			func(w *wire) { w.in.Lock() }, func(w *wire) { w.in.Unlock() },
			func(w *wire) { w.send(t, w.network, peerMAC, 1, frames) },
			func(s Stats) uint64 { return s.InputDelivered }, func(s Stats) uint64 { return s.InputDropped }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t, Options{})
			w.Pass()
			w.OpenInput()
			s := c.receives(w).(*netdev.Socket)
			s.Now(func(fd int) {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil { // the least there is
					t.Error(err)
				}
			})
			c.lock(w)
			c.send(w)
			netns.Eventually(t, "some are dropped", func() bool { return s.Overrun() > 0 })
			c.unlock(w)
			netns.Eventually(t, "all are told of", func() bool { s := w.Stats(); return c.through(s)+c.dropped(s) == frames })
			if n := s.Overrun(); n != c.dropped(w.Stats()) {
				t.Errorf("%d were dropped in the kernel, and told are %d", n, c.dropped(w.Stats()))
			}
			before := s.Overrun()
			w.Close()
			if after := s.Overrun(); after != before {
				t.Errorf("%d were dropped, and %d once the gate is closed", before, after)
			}
		})
	}
}
