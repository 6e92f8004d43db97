package daemon

import (
	"context"
	"fmt"
	"time"
)

const (
	// reserveLimit is how long a call waits for another one at the same machine. One
	// whose arbiter does not answer may take longer.
	reserveLimit = 20 * time.Second
	// interruptRetry is how often a try to adopt the machine is ended meanwhile.
	interruptRetry = 20 * time.Millisecond
)

// reservedError says that another call is making or removing the machine.
type reservedError struct{ name string }

func (e reservedError) Error() string {
	return fmt.Sprintf("machine %s is being started or stopped by another call", e.name)
}

// reserve makes sure that only one call at a time makes or removes a machine. It
// does not wait.
func (d *Daemon) reserve(name string) (release func(), err error) {
	release, other := d.tryReserve(name)
	if other != nil {
		return nil, reservedError{name}
	}
	return release, nil
}

// tryReserve returns a channel instead that is closed when the other call has ended.
func (d *Daemon) tryReserve(name string) (release func(), other <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if other := d.busy[name]; other != nil {
		return nil, other
	}
	ended := make(chan struct{})
	d.busy[name] = ended
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.busy, name)
		close(ended)
	}, nil
}

// reserveSoon is for a peer's call. It waits, but not for ever, for another one to
// end: who has been told that a machine stops, or needs no standby, may ask for the
// next at once, and hosts learn of it one after the other.
func (d *Daemon) reserveSoon(ctx context.Context, name string) (release func(), err error) {
	return d.awaitName(ctx, name, func() <-chan time.Time { return nil })
}

// reserveFor an operator's call. It waits likewise. A machine of an earlier daemon
// that is just being adopted is let go of.
func (d *Daemon) reserveFor(ctx context.Context, name string) (release func(), err error) {
	return d.awaitName(ctx, name, func() <-chan time.Time {
		g := d.find(name)
		if g == nil || g.earlier == nil {
			return nil
		}
		g.earlier.interrupt()
		return time.After(interruptRetry)
	})
}

// awaitName reserves it as soon as the other call has ended. urge is asked again when
// the time that it tells has come.
func (d *Daemon) awaitName(ctx context.Context, name string, urge func() <-chan time.Time) (release func(), err error) {
	limit := time.NewTimer(reserveLimit)
	defer limit.Stop()
	for {
		release, other := d.tryReserve(name)
		if other == nil {
			return release, nil
		}
		select {
		case <-other:
		case <-urge():
		case <-limit.C:
			return nil, fmt.Errorf("%w, which has not ended for %v; nothing was changed: \"hostd status %s\" tells what it waits for, try again then", reservedError{name}, reserveLimit, name)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w, and the wait for it ended: %w; nothing was changed", reservedError{name}, context.Cause(ctx))
		}
	}
}

// awaitRetired waits, but not for ever, for the end of what is on its way out here:
// what comes in its place uses the same files and taps.
func (d *Daemon) awaitRetired(ctx context.Context, name string) {
	old := d.find(name)
	if old == nil || !old.retired.Load() {
		return
	}
	limit := time.NewTimer(reserveLimit)
	defer limit.Stop()
	select {
	case <-old.over:
		d.forgetThis(old)
	case <-limit.C:
	case <-ctx.Done():
	}
}
