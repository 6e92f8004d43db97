package primary

import (
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// watchParts is into how many looks the patience with QEMU is divided.
const watchParts = 10

// look is what is seen of QEMU at one moment.
type look struct {
	waited   bool   // QEMU, and nobody else, is waited for
	progress uint64 // another number whenever it has done something
	stopped  bool   // its guest is stopped: no progress excuses that
}

// patience counts the looks at a QEMU that is waited for without progress, and at
// one whose guest is stopped.
type patience struct {
	looks         int // after so many it is used up
	idle, stopped int
	progress      uint64
}

// ended takes a look and says that patience is used up.
func (p *patience) ended(now look) bool {
	if now.waited && now.progress == p.progress {
		p.idle++
	} else {
		p.idle, p.progress = 0, now.progress
	}
	if now.stopped {
		p.stopped++
	} else {
		p.stopped = 0
	}
	return max(p.idle, p.stopped) >= p.looks
}

// watchCheckpoint watches a QEMU that has a part of a checkpoint to do, and nothing
// else meanwhile.
func (p *Session) watchCheckpoint() (done func()) {
	return p.watch("in a checkpoint", func() look { return look{waited: true} })
}

// watchSeed watches the first copy, from its set-up to the guest's resume. It may
// take as long as it gets on, and the guest runs.
func (p *Session) watchSeed() (done func()) {
	return p.watch("in the first copy", func() look {
		return look{waited: p.gauge.Waits(), progress: p.gauge.Progress(), stopped: p.gauge.Stopped()}
	})
}

// watch gives up a QEMU that does not do its part in time.
func (p *Session) watch(when string, see func() look) (done func()) {
	ended := make(chan struct{})
	p.wg.Go(func() {
		limit := time.Duration(p.o.Detection.QEMU)
		if p.hangs(limit, see, ended) {
			p.hung(when, limit)
		}
	})
	return func() { close(ended) }
}

// hangs waits until patience with QEMU is used up, or the end of its part. Time in
// which this daemon itself stood still does not count.
func (p *Session) hangs(limit time.Duration, see func() look, ended <-chan struct{}) bool {
	tick := time.NewTicker(limit / watchParts)
	defer tick.Stop()
	for left := (&patience{looks: watchParts}); ; {
		select {
		case <-ended:
			return false
		case <-p.ctx.Done():
			return false
		case <-p.link.Done():
			return false
		case <-tick.C: // late ticks are dropped, so a stall counts as one
			if left.ended(see()) {
				return true
			}
		}
	}
}

// hung ends a QEMU whose machine the standby can go on with: one that hangs is as
// dead as one that ended. Where no other host holds a whole epoch, this QEMU is all
// that there is of the machine, and only the protection is given up: the guest is
// freed from COLO and runs on.
func (p *Session) hung(when string, limit time.Duration) {
	if !p.held() {
		p.log.Error("QEMU hangs; the protection is given up", "when", when, "limit", limit)
		p.tellHang(fmt.Sprintf("QEMU did not get on %s for %v; the protection is given up and the guest freed", when, limit))
		p.post(pair.LinkLost{Why: fmt.Sprintf("QEMU did not get on %s for %v (detection.qemu)", when, limit)})
		return
	}
	p.log.Error("QEMU hangs and is ended", "when", when, "limit", limit)
	p.tellHang(fmt.Sprintf("QEMU did not answer %s for %v and is ended", when, limit))
	p.post(pair.MachineLost{Why: "QEMU hangs " + when}) // its end may take long
	p.o.QEMU.Signal()
}

func (p *Session) tellHang(message string) {
	p.o.Publish(status.Event{Kind: status.QEMUHangs, Message: message})
}

// held says that the standby holds a whole epoch, and that the arbiter names it.
func (p *Session) held() bool {
	role, _ := p.o.State.RoleNow()
	return role == pair.Protected && p.acked.Load() > 0
}

// HandoverLimit is how long a guest waits, stopped, for its standby to run it after
// a switch-over's last epoch. The standby gives up earlier, and says so.
const HandoverLimit = time.Minute

var errNoHandover = errors.New("the standby neither runs the machine nor gives it back")

// awaitHandover returns when the protection ends. If the standby lets it wait, the
// arbiter is asked whose the machine is.
func (p *Session) awaitHandover() error {
	limit := time.NewTimer(HandoverLimit)
	defer limit.Stop()
	select {
	case <-limit.C:
		p.link.Close(errNoHandover)
	case <-p.ctx.Done():
	}
	<-p.ctx.Done()
	return p.ctx.Err()
}
