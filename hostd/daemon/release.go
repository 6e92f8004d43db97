package daemon

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// release lets a committed epoch's output go. The standby does not take this
// host for dead before the detection limit has passed since it was sent the
// epoch, so an acknowledgement younger than that is as good as new. An older
// one, found by a daemon that was stopped meanwhile, may be of a standby that
// has taken over since and sent the output itself: the arbiter is asked first.
// The output is committed either way, so this only keeps one voice from
// repeating another.
// It reports false where the door is closed.
func (g *guest) release(epoch uint64) (spoken bool) {
	p := g.protection
	if p == nil {
		return true
	}
	g.d.faults(fault.Committing, epoch)
	all, spoken := g.releaseUntil(epoch, p.sentAt().Add(g.d.detectionLimit()))
	if !spoken {
		return false
	}
	if all {
		p.released(epoch)
		return true
	}
	g.log.Warn("acknowledgement is old; asking the arbiter before output leaves", "epoch", epoch)
	generation := g.role.Generation()
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		p.releaseLate(epoch, generation)
	}()
	return true
}

func (d *Daemon) detectionLimit() time.Duration { return time.Duration(d.config.Detection.Limit) }

// released tells the standby, so that a takeover sends little of it again, and
// lets the next checkpoint come.
func (p *protection) released(epoch uint64) {
	p.g.gate.CommitInput()
	p.link.Send(replica.Header{Type: replica.TypeReleased, Epoch: epoch})
	select {
	case p.committed <- epoch:
	default:
	}
}

// releaseLate releases if the arbiter says that nobody else has the voice. It
// gives up when the pair ends.
func (p *protection) releaseLate(epoch, generation uint64) {
	for p.ctx.Err() == nil {
		asked := time.Now()
		own, err := p.g.d.voices.Holds(p.ctx, p.g.name, generation)
		switch {
		case err != nil:
			p.g.publish(status.Event{Kind: status.Arbiter, Message: "the arbiter does not answer (" + err.Error() + "); committed output waits"})
		case !own:
			p.post(pair.LinkLost{Why: "the arbiter names another generation"})
			return
		default:
			if all, _ := p.g.releaseUntil(epoch, asked.Add(p.g.d.detectionLimit())); all {
				p.released(epoch)
				return
			}
		}
		if !p.rest(retryInterval) {
			return
		}
	}
}

// rest waits, and reports whether the protection goes on.
func (p *protection) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// sentAt is when the last epoch was sent.
func (p *protection) sentAt() time.Time {
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.lastSent
}

func (p *protection) sendsNow() {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.lastSent = time.Now()
}
