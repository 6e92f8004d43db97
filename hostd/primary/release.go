package primary

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// Release lets a committed epoch's output go. The standby does not take this
// host for dead before the detection limit has passed since it was sent the
// epoch, so an acknowledgement younger than that is as good as new. An older
// one, found by a daemon that was stopped meanwhile, may be of a standby that
// has taken over since and sent the output itself: the arbiter is asked first.
// The output is committed either way, so this only keeps one voice from
// repeating another.
// It reports false where the door is closed.
func (p *Session) Release(epoch, generation uint64) (spoken bool) {
	p.reach(fault.Committing, epoch)
	all, spoken := p.o.Release(epoch, p.sentAt().Add(p.limit()))
	if !spoken {
		return false
	}
	if all {
		p.released(epoch)
		return true
	}
	p.log.Warn("acknowledgement is old; asking the arbiter before output leaves", "epoch", epoch)
	p.wg.Go(func() { p.releaseLate(epoch, generation) })
	return true
}

// released tells the standby, so that a takeover sends little of it again, and
// lets the next checkpoint come.
func (p *Session) released(epoch uint64) {
	p.o.Gate.CommitInput()
	p.link.Send(replica.Header{Type: replica.TypeReleased, Epoch: epoch})
	select {
	case p.committed <- epoch:
	default:
	}
}

// releaseLate releases if the arbiter says that nobody else has the voice. It
// gives up when the pair ends.
func (p *Session) releaseLate(epoch, generation uint64) {
	for p.ctx.Err() == nil {
		asked := time.Now()
		own, err := p.o.Holds(p.ctx, generation)
		switch {
		case err != nil:
			p.o.Publish(status.Event{Kind: status.Arbiter, Message: "the arbiter does not answer (" + err.Error() + "); committed output waits"})
		case !own:
			p.post(pair.LinkLost{Why: "the arbiter names another generation"})
			return
		default:
			if all, _ := p.o.Release(epoch, asked.Add(p.limit())); all {
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
func (p *Session) rest(d time.Duration) bool {
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
func (p *Session) sentAt() time.Time {
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.lastSent
}

func (p *Session) sendsNow() {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.lastSent = time.Now()
}
