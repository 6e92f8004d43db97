package gate

import "time"

// slowClock shows for how long one port's frames have waited for the guest, and for
// nothing else: it runs while they could be handed in and the tap has no room. A
// frame that waits for a checkpoint, or for the log, does not age.
type slowClock struct {
	shown   time.Duration
	running bool
	since   time.Duration
	stopped time.Duration // when it last was
	// credit is for how long the clock stands at first.
	credit time.Duration
}

func (c *slowClock) at(now time.Duration) time.Duration {
	if !c.running {
		return c.shown
	}
	return c.shown + max(0, now-c.since-c.credit)
}

// start lets the clock run. Frames that were held for long gathered meanwhile; a guest
// that keeps up needs no longer than that to work them off, and has this credit.
func (c *slowClock) start(now, credit time.Duration) {
	if c.running {
		return
	}
	c.running, c.since = true, now
	c.credit = max(c.credit, credit)
}

func (c *slowClock) stop(now time.Duration) {
	if !c.running {
		return
	}
	c.shown, c.credit, c.running, c.stopped = c.at(now), max(0, c.credit-(now-c.since)), false, now
}
