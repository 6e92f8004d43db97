package primary

import (
	"errors"
	"math"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// logBatch is how many bytes of arriving frames go into one message: few enough
// that epochs and frames share the link.
const logBatch = 256 << 10

// logMode of the machine's input.
func (p *Session) logMode() gate.Log {
	switch p.o.Machine.Protection.InputLog {
	case spec.InputSync:
		return gate.LogSync
	case spec.InputAsync:
		return gate.LogAsync
	}
	return gate.LogOff
}

// startLog logs arriving frames to the standby from now on.
func (p *Session) startLog() {
	p.o.Gate.StartLog(p.logMode(), uint64(p.o.Limits.InputLog))
}

// keepLog ships what arrives until the protection ends.
func (p *Session) keepLog() {
	for {
		select {
		case <-p.o.Gate.ToLog():
			if p.flushLog(math.MaxUint64) != nil {
				return
			}
		case <-p.ctx.Done():
			return
		}
	}
}

// flushLog ships every frame up to a number that the log has not had: what arrives
// meanwhile may never end. It may be called concurrently; once it returns, those frames
// are out.
func (p *Session) flushLog(upto uint64) error {
	p.logging.Lock()
	defer p.logging.Unlock()
	for p.logged < upto {
		p.input.Reset()
		first, n := p.o.Gate.TakeLog(p.takeFrame)
		if n == 0 {
			return nil
		}
		if err := p.sendInput(first); err != nil {
			return err
		}
		p.logged = first + uint64(n) - 1
		p.boundLog()
	}
	return nil
}

// logFrame adds a frame to the message of the log that is being made, if it has room.
func (p *Session) logFrame(f gate.Frame) bool {
	return len(p.input.Payload()) < logBatch && p.input.Frame(uint16(f.Port), f.Data) == nil
}

func (p *Session) sendInput(first uint64) error {
	if p.link == nil {
		return errors.New("there is no link to the standby")
	}
	p.logHead = replica.AppendInputLogHead(p.logHead[:0], first)
	return p.link.Send(replica.Header{Type: replica.TypeInputLog}, p.logHead, p.input.Payload())
}

// boundLog ends the epoch early when the standby has much input to keep.
func (p *Session) boundLog() {
	if p.o.Gate.LogBehind() > uint64(p.o.Limits.InputLog)/2 {
		p.Ask()
	}
}

// sendInputCut tells the standby which logged frames the epoch contains.
func (p *Session) sendInputCut(t *taken) error {
	if p.logMode() == gate.LogOff {
		return nil
	}
	if err := p.flushLog(t.input.Upto); err != nil {
		return err
	}
	cut := replica.InputCut{Upto: t.input.Upto, Tails: t.input.Tails}
	p.message = cut.Append(p.message[:0])
	return p.link.Send(p.header(replica.TypeInputCut, t.epoch.Number), p.message)
}

// EndInput sends what has arrived and says so. The network has moved, but for
// frames that were on their way already: what still comes is passed on as well,
// until the other side has heard enough.
func (p *Session) EndInput() {
	if err := p.flushLog(p.o.Gate.Arrived()); err != nil {
		p.log.Debug("input not passed on", "error", err)
	}
}

// storedInput hands in what the standby holds.
func (p *Session) storedInput(payload []byte) {
	m, err := replica.DecodeInputStored(payload)
	if err != nil {
		p.link.Close(err)
		return
	}
	p.o.Gate.Stored(m.Number)
}

// AskLast makes the next checkpoint the last: the guest stays stopped.
func (p *Session) AskLast() {
	p.last.Store(true)
	p.Ask()
}

// Ask makes a checkpoint due.
func (p *Session) Ask() {
	select {
	case p.asked <- struct{}{}:
	default:
	}
}
