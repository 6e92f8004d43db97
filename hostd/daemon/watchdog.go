package daemon

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// watchParts is into how many looks the patience with QEMU is divided.
const watchParts = 10

// watchQEMU ends a QEMU that does not do its part of a checkpoint in time: a
// machine that hangs is as dead as one that ended, and its standby is not.
func (p *protection) watchQEMU() (done func()) {
	ended := make(chan struct{})
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		limit := time.Duration(p.g.d.config.Detection.QEMU)
		if p.hangs(limit, ended) {
			p.g.log.Error("QEMU hangs in a checkpoint and is ended", "limit", limit)
			p.g.publish(&control.Event{Kind: "qemu-hangs", Message: "QEMU did not answer for " + limit.String() + " and is ended"})
			p.post(pair.MachineLost{Why: "QEMU hangs in a checkpoint"}) // its end may take long
			p.g.qemu.Signal()
		}
	}()
	return func() { close(ended) }
}

// hangs waits until QEMU's patience is used up, or the end of its part. Time in
// which this daemon itself stood still does not count, and without a standby
// there is nobody to whom to leave the machine.
func (p *protection) hangs(limit time.Duration, ended <-chan struct{}) bool {
	tick := time.NewTicker(limit / watchParts)
	defer tick.Stop()
	for left := watchParts; ; {
		select {
		case <-ended:
			return false
		case <-p.ctx.Done():
			return false
		case <-p.link.Done():
			return false
		case <-tick.C: // late ticks are dropped, so a stall counts as one
			if left--; left == 0 {
				return true
			}
		}
	}
}
