package standby

import (
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// logInput takes a message of the primary's input log.
func (s *Session) logInput(payload []byte) error {
	m, err := replica.DecodeInputLog(payload)
	if err != nil {
		return err
	}
	before := s.input.Forgotten()
	if err := s.input.Add(m); err != nil {
		return err
	}
	if n := s.input.Forgotten(); before == 0 && n > 0 {
		s.log.Warn("the input log is full of packets that the guest may not have read: the oldest were dropped, a takeover now would not hand them in", "dropped", n)
	}
	if s.o.Machine.Protection.InputLog != spec.InputSync {
		return nil
	}
	s.stored = replica.InputStored{Number: s.input.Last()}.Append(s.stored[:0])
	_ = s.link.Send(replica.Header{Type: replica.TypeInputStored}, s.stored) // a broken link has its own event
	return nil
}

func (s *Session) cutInput(h replica.Header, payload []byte) error {
	c, err := replica.DecodeInputCut(payload)
	if err == nil {
		s.input.Cut(h.Epoch, c)
	}
	return err
}
