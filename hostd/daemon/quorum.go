package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

const (
	// askEvery is how often the arbiter is asked while nothing is claimed, so that one
	// which does not answer is known before it is needed.
	askEvery = 5 * time.Second
	// askTimes in a row without an answer are told of: a member may just be starting.
	askTimes = 2
	// askAbout is no machine: only whether there is an answer matters.
	askAbout = "arbiter-probe"
)

// watchArbiter tells of an arbiter that does not answer, and of its return.
func (d *Daemon) watchArbiter() {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for failures := 0; ; {
		err := d.askArbiter()
		switch {
		case d.ctx.Err() != nil:
			return
		case err != nil:
			failures++
		default:
			failures = 0
		}
		d.noteArbiter(failures, err)
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			return
		}
	}
}

func (d *Daemon) askArbiter() error {
	ctx, cancel := context.WithTimeout(d.ctx, claimLimit)
	defer cancel()
	_, err := d.arbiter.Current(ctx, askAbout)
	return err
}

func (d *Daemon) noteArbiter(failures int, err error) {
	was := d.arbiterDown.Load()
	switch {
	case failures >= askTimes:
		why := fmt.Sprintf("the arbiter does not answer (%v): machines run on, but none can be taken over, started or protected; bring it back (docs/arbiter.md)", err)
		d.arbiterDown.Store(&why)
		if was == nil {
			d.log.Error("the arbiter does not answer; machines run on, and none can be taken over", "error", err)
			d.events.Publish(status.Event{Kind: status.Arbiter, Message: why})
		}
	case failures == 0 && was != nil:
		d.arbiterDown.Store(nil)
		d.log.Info("the arbiter answers again")
		d.events.Publish(status.Event{Kind: status.Arbiter, Message: "the arbiter answers again"})
	}
}
