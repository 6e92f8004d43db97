package daemon

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
func (p *protection) logMode() gate.Log {
	switch p.g.spec.Protection.InputLog {
	case spec.InputSync:
		return gate.LogSync
	case spec.InputAsync:
		return gate.LogAsync
	}
	return gate.LogOff
}

// startLog logs arriving frames to the standby from now on.
func (p *protection) startLog() {
	p.g.gate.StartLog(p.logMode(), uint64(p.g.d.config.Limits.InputLog))
}

// keepLog ships what arrives until the protection ends.
func (p *protection) keepLog() {
	for {
		select {
		case <-p.g.gate.ToLog():
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
func (p *protection) flushLog(upto uint64) error {
	p.logging.Lock()
	defer p.logging.Unlock()
	for p.logged < upto {
		p.input.Reset()
		first, n := p.g.gate.TakeLog(func(f gate.Frame) bool {
			return len(p.input.Payload()) < logBatch && p.input.Frame(uint16(f.Port), f.Data) == nil
		})
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

func (p *protection) sendInput(first uint64) error {
	if p.link == nil {
		return errors.New("there is no link to the standby")
	}
	p.logHead = replica.AppendInputLogHead(p.logHead[:0], first)
	return p.link.Send(replica.Header{Type: replica.TypeInputLog}, p.logHead, p.input.Payload())
}

// boundLog ends the epoch early when the standby has much input to keep.
func (p *protection) boundLog() {
	if p.g.gate.LogBehind() > uint64(p.g.d.config.Limits.InputLog)/2 {
		p.ask()
	}
}

// sendInputCut tells the standby which logged frames the epoch contains.
func (p *protection) sendInputCut(t *taken) error {
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

// endInput sends what has arrived and says so. The network has moved, but for
// frames that were on their way already: what still comes is passed on as well,
// until the other side has heard enough.
func (g *guest) endInput() {
	g.gate.DrainInput()
	if p := g.protection; p != nil {
		if err := p.flushLog(g.gate.Arrived()); err != nil {
			g.log.Debug("input not passed on", "error", err)
		}
	}
	g.tell(replica.Header{Type: replica.TypeInputEnd}, nil)
}

// logInput takes a message of the primary's input log.
func (s *standby) logInput(payload []byte) error {
	m, err := replica.DecodeInputLog(payload)
	if err != nil {
		return err
	}
	before := s.input.Forgotten()
	if err := s.input.Add(m); err != nil {
		return err
	}
	if n := s.input.Forgotten(); before == 0 && n > 0 {
		s.g.log.Warn("the input log is full of packets that the guest may not have read: the oldest were dropped, a takeover now would not hand them in", "dropped", n)
	}
	if s.g.spec.Protection.InputLog != spec.InputSync {
		return nil
	}
	s.stored = replica.InputStored{Number: s.input.Last()}.Append(s.stored[:0])
	_ = s.link.Send(replica.Header{Type: replica.TypeInputStored}, s.stored) // a broken link has its own event
	return nil
}

func (s *standby) cutInput(h replica.Header, payload []byte) error {
	c, err := replica.DecodeInputCut(payload)
	if err == nil {
		s.input.Cut(h.Epoch, c)
	}
	return err
}

// storedInput hands in what the standby holds.
func (p *protection) storedInput(payload []byte) {
	m, err := replica.DecodeInputStored(payload)
	if err != nil {
		p.link.Close(err)
		return
	}
	p.g.gate.Stored(m.Number)
}

// askLast makes the next checkpoint the last: the guest stays stopped.
func (p *protection) askLast() {
	p.last.Store(true)
	p.ask()
}

// ask makes a checkpoint due.
func (p *protection) ask() {
	select {
	case p.asked <- struct{}{}:
	default:
	}
}
