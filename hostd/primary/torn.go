package primary

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// errTorn says that the guest's memory changed between the copies of device
// state and memory: the epoch is not whole.
var errTorn = errors.New("QEMU worked on the agent channel while the guest was stopped")

// How long a machine rests after a torn checkpoint: twice as long after each in a row,
// so that a guest which tears them all gets few copies taken.
const (
	tornRest = 10 * time.Millisecond
	tornMost = 2 * time.Second
)

// tornWait is the rest after so many torn checkpoints in a row, from 1.
func tornWait(row int) time.Duration {
	if row > 16 { // far beyond tornMost, and no overflow
		return tornMost
	}
	return min(tornRest<<(row-1), tornMost)
}

// carry keeps what a torn checkpoint has copied for the next one: its pages are
// dirty no more, for QEMU, and what the guest has said leaves with the next epoch
// that is whole. The standby hears of none of it.
func (p *Session) carry(t *taken) {
	t.epoch.Keep()
	p.torn++
	p.outputs = t.output
	p.learned.Held = p.learned.Held || t.frames > 0
	p.learned.Asked = p.learned.Asked || t.last
	all := p.o.State.Tear()
	p.log.Warn("the guest's agent channel moved in a checkpoint; it is taken again", "epoch", t.epoch.Number, "in a row", p.torn)
	if bits.OnesCount64(all) == 1 { // the first, and then ever fewer
		p.o.Publish(status.Event{Kind: status.Torn, Epoch: t.epoch.Number, Message: status.TornMessage(all)})
	}
}

// afterTorn returns when the next checkpoint may be tried.
func (p *Session) afterTorn() error {
	if !p.rest(tornWait(p.torn)) {
		return p.ctx.Err()
	}
	if err := p.awaitRequest(); err != nil {
		return fmt.Errorf("wait for QEMU to stand by for a checkpoint: %w", err)
	}
	return nil
}
