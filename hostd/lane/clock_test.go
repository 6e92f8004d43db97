package lane

import (
	"testing"
	"time"
)

func TestTheClockRunsWhileTheGuestIsWaitedFor(t *testing.T) {
	var c Clock
	show := func(now, want time.Duration) {
		t.Helper()
		if got := c.At(now); got != want {
			t.Fatalf("at %d the clock shows %d, want %d", now, got, want)
		}
	}
	c.start(10, 0)
	show(15, 5)
	c.Await(16, 16, 30) // it runs already
	show(20, 10)
	c.Stop(20)
	show(90, 10)
	c.Stop(95)
	c.start(100, 30) // after a long hold
	show(120, 10)
	c.Stop(120)
	c.start(200, 0)
	show(210, 10)
	show(212, 12)
	c.Stop(215)
	show(300, 15)
}

// TestWhatWasHeldHasItsTime: once, for what is longer than the bound.
func TestWhatWasHeldHasItsTime(t *testing.T) {
	var c Clock
	c.Await(100, 50, 30)
	if got := c.At(150); got != 0 || !c.Running() {
		t.Errorf("a frame that was held for 50 is %d old, 50 after it could be handed in", got)
	}
	if got := c.At(151); got != 1 {
		t.Errorf("after that time it is %d old, want 1", got)
	}
	c.Stop(160)
	c.Await(170, 50, 30) // it stopped only just now
	if got := c.At(175); got != 15 {
		t.Errorf("a frame that had its time is %d old, want 15", got)
	}
	c.Stop(175)
	c.Await(300, 175, 30)
	c.CaughtUp(310)
	c.Await(311, 311, 30)
	if got := c.At(315); got != 19 {
		t.Errorf("for a guest that has caught up the clock shows %d, want 19", got)
	}
}
