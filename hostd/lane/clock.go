package lane

import "time"

// Clock shows for how long one port's frames have waited for the guest, and for
// nothing else: it runs while they could be handed in and the tap has no room. A
// frame that waits for a checkpoint, or for the log, does not age.
type Clock struct {
	shown   time.Duration
	running bool
	since   time.Duration
	stopped time.Duration // when it last was
	// credit is for how long the clock stands at first.
	credit time.Duration
}

// At is what the clock shows.
func (c *Clock) At(now time.Duration) time.Duration {
	if !c.running {
		return c.shown
	}
	return c.shown + max(0, now-c.since-c.credit)
}

// Running says that the guest is waited for.
func (c *Clock) Running() bool { return c.running }

// Await lets the clock run for a frame that has been held since it came. Where that was
// for longer than the bound, frames gathered meanwhile, and a guest that keeps up needs no
// longer than that to work them off: it has the same time as credit. What they were held
// for before the clock was stopped has had its time.
func (c *Clock) Await(now, came, bound time.Duration) {
	if c.running {
		return
	}
	held := now - max(came, c.stopped)
	if held < bound {
		held = 0
	}
	c.start(now, held)
}

func (c *Clock) start(now, credit time.Duration) {
	c.running, c.since = true, now
	c.credit = max(c.credit, credit)
}

// Stop keeps what is left of the credit.
func (c *Clock) Stop(now time.Duration) {
	if !c.running {
		return
	}
	c.shown, c.credit, c.running, c.stopped = c.At(now), max(0, c.credit-(now-c.since)), false, now
}

// CaughtUp stops the clock for a guest that has taken all, and needs no credit.
func (c *Clock) CaughtUp(now time.Duration) {
	c.Stop(now)
	c.credit = 0
}
