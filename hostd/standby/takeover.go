package standby

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// ExpectTakeover has Stop wait for the takeover that is about to begin.
func (s *Session) ExpectTakeover() { s.ran = make(chan struct{}) }

// TakeOver makes the waiting QEMU run from the last committed epoch. The arbiter has given
// this host the voice. It may run beside all else, once ExpectTakeover was called.
func (s *Session) TakeOver(ctx context.Context) error {
	defer close(s.ran)
	return s.run(ctx)
}

func (s *Session) run(ctx context.Context) error {
	s.endReceiving()
	s.replica.Drop()
	if err := s.replica.Apply(); err != nil {
		return err
	}
	s.input.Commit(s.replica.Applied())
	s.o.Faults(fault.TakingOver, s.replica.Applied())
	s.o.Gate.Hold()
	s.o.Gate.HoldInput()
	subscription := s.o.QEMU.Monitor().Events()
	defer subscription.Close()
	if err := s.feed(ctx); err != nil {
		return err
	}
	for events := subscription.C(); ; {
		select {
		case e, ok := <-events:
			if !ok {
				events = nil // QEMU has ended, and why is told in a moment
			}
			if e.Name == "RESUME" {
				return nil
			}
		case <-s.o.QEMU.Exited():
			return s.o.QEMU.Reason()
		case <-ctx.Done():
			return fmt.Errorf("QEMU does not run the machine: %w", ctx.Err())
		}
	}
}

// feed hands QEMU, which has listened since it was prepared, the synthesized
// migration stream.
func (s *Session) feed(ctx context.Context) error {
	conn, err := s.o.QEMU.DialIncoming(ctx)
	if err != nil {
		return fmt.Errorf("connect to the waiting QEMU: %w", err)
	}
	defer conn.Close()
	w := bufio.NewWriterSize(conn, 1<<20)
	if err := s.replica.WriteStream(w); err != nil {
		return err
	}
	return w.Flush()
}

// Resend what was committed last and may not have left the old primary.
func (s *Session) Resend() error {
	if s.released >= s.replica.Applied() {
		return nil
	}
	return s.replica.LastOutput(func(port int, frame []byte) {
		s.o.Gate.Resend(gate.Frame{Port: port, Data: frame})
	})
}

// lateInput is how long the old primary may pass on what reached its wire after
// the network had moved.
const lateInput = time.Second

// Finish hands in what the old primary passes on within a limit, then what waits here, and
// ends the standby's part: nothing else of it is called any more. It returns early when
// the context ends.
func (s *Session) Finish(ctx context.Context, limit time.Duration) {
	ended := context.AfterFunc(ctx, func() { s.link.Close(context.Canceled) })
	defer ended()
	timer := time.AfterFunc(limit, func() { s.link.Close(errors.New("the old primary passes nothing on")) })
	defer timer.Stop()
	replayed := s.input.Replay(s.handIn)
	last := s.input.Last()
	passed := s.takeInput(&last)
	s.o.Gate.OpenInput()
	s.log.Info("takeover: the ports are open", "replayed", replayed, "passed-on", passed)
	timer.Reset(lateInput)
	late := s.takeInput(&last)
	s.o.State.Replay(replayed + passed + late)
	s.link.Close(context.Canceled)
	s.close()
}

func (s *Session) handIn(port int, frame []byte) {
	s.o.Gate.Inject(gate.Frame{Port: port, Data: frame})
}

// takeInput injects the frames that the old primary passes on and the log has
// not had, until it says that there are no more, or is gone.
func (s *Session) takeInput(last *uint64) (frames int) {
	for {
		h, payload, err := s.link.Receive()
		if err != nil || h.Type == replica.TypeInputEnd {
			return frames
		}
		if h.Type != replica.TypeInputLog {
			continue
		}
		m, err := replica.DecodeInputLog(payload)
		if err != nil {
			s.log.Warn("old primary passes on what cannot be read", "error", err)
			return frames
		}
		number := m.First
		for f, ok := m.Frames.Next(); ok; f, ok = m.Frames.Next() {
			if number > *last {
				s.handIn(int(f.Port), f.Data)
				*last = number
				frames++
			}
			number++
		}
	}
}
