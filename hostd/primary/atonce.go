package primary

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/policy"
)

// keepPassing allows output that leaves at once as long as the standby is heard: it
// does not take this host for dead before the detection limit has passed. A daemon
// that was stopped, or a link that was lost, lets nothing leave so until the
// arbiter has been asked.
func (p *Session) keepPassing() {
	if OutputOf(p.o.Machine.Protection) == policy.OnCommit {
		return
	}
	tick := time.NewTicker(time.Duration(p.o.Detection.Heartbeat))
	defer tick.Stop()
	for {
		p.o.PassUntil(p.link.Heard().Add(p.limit()))
		select {
		case <-tick.C:
		case <-p.link.Done():
			p.o.PassNoMore()
			return
		case <-p.ctx.Done():
			p.o.PassNoMore()
			return
		}
	}
}
