package daemon

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

func outputOf(p spec.Protection) policy.Output {
	if p.Output == spec.Pass {
		return policy.AtOnce
	}
	return policy.OnCommit
}

// keepPassing allows output that leaves at once as long as the standby is heard: it
// does not take this host for dead before the detection limit has passed. A daemon
// that was stopped, or a link that was lost, lets nothing leave so until the
// arbiter has been asked.
func (p *protection) keepPassing() {
	if outputOf(p.g.spec.Protection) == policy.OnCommit {
		return
	}
	tick := time.NewTicker(time.Duration(p.g.d.config.Detection.Heartbeat))
	defer tick.Stop()
	for {
		p.g.passUntil(p.link.Heard().Add(p.g.d.detectionLimit()))
		select {
		case <-tick.C:
		case <-p.link.Done():
			p.g.passNoMore()
			return
		case <-p.ctx.Done():
			p.g.passNoMore()
			return
		}
	}
}
