package gate

import (
	"testing"
	"time"
)

// TestWhatPassesWaitsNoLonger than it may pass: its time is that of a frame which the
// uplink takes at once.
func TestWhatPassesWaitsNoLonger(t *testing.T) {
	w := patient(newWire(t, Options{HeldOutput: 64 << 20, AtOnce: func([]byte) bool { return true }}))
	open := stuff(t, "uplink")
	w.Pass()
	w.Cut(1)
	w.PassUntil(time.Now().Add(2 * time.Second))
	sent := w.untilItWaits(t)
	<-time.After(2 * time.Second) // it is over
	left := int(w.Stats().Released)
	open()
	drained(t, w.network, left)
	w.expectNothing(t, w.network, "uplink")
	if s := w.Stats(); s.Waiting != 0 || int(s.Released) != left {
		t.Errorf("of %d frames %d had left, and after the time %+v", sent, left, s)
	}
}
