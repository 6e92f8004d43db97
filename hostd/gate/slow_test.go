package gate

import (
	"testing"
	"time"
)

func TestTheSlowClockRunsWhileTheGuestIsWaitedFor(t *testing.T) {
	var c slowClock
	show := func(now, want time.Duration) {
		t.Helper()
		if got := c.at(now); got != want {
			t.Fatalf("at %d the clock shows %d, want %d", now, got, want)
		}
	}
	c.start(10, 0)
	show(15, 5)
	c.start(16, 0) // it runs already
	show(20, 10)
	c.stop(20)
	show(90, 10)
	c.stop(95)
	c.start(100, 30) // after a long hold
	show(120, 10)
	c.stop(120)
	c.start(200, 0)
	show(210, 10)
	show(212, 12)
	c.stop(215)
	show(300, 15)
}
