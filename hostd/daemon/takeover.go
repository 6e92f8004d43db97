package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// takeOver makes the waiting QEMU run from the last committed epoch. The
// arbiter has given this host the voice.
func (g *guest) takeOver(s *standby) {
	ctx, cancel := context.WithTimeout(g.ctx, takeoverLimit)
	defer cancel()
	started := time.Now()
	err := g.runStandby(ctx, s)
	close(s.ran)
	if err != nil {
		g.log.Error("takeover failed", "error", err)
		g.post(pair.TakeoverFailed{Why: err.Error()})
		return
	}
	g.log.Info("takeover: the guest runs", "epoch", s.replica.Applied(), "after", time.Since(started))
	g.post(pair.Running{})
}

func (g *guest) runStandby(ctx context.Context, s *standby) error {
	s.endReceiving()
	s.replica.Drop()
	if err := s.replica.Apply(); err != nil {
		return err
	}
	s.input.Commit(s.replica.Applied())
	g.d.faults(fault.TakingOver, s.replica.Applied())
	g.gate.Hold()
	g.gate.HoldInput()
	subscription := g.qemu.Monitor().Events()
	defer subscription.Close()
	if err := g.feed(ctx, s); err != nil {
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
		case <-g.qemu.Exited():
			return g.qemu.Reason()
		case <-ctx.Done():
			return fmt.Errorf("QEMU does not run the machine: %w", ctx.Err())
		}
	}
}

// feed hands QEMU, which has listened since it was prepared, the synthesized
// migration stream.
func (g *guest) feed(ctx context.Context, s *standby) error {
	conn, err := g.qemu.DialIncoming(ctx)
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

// goLive gives the machine its voice here: its addresses are announced,
// committed output that the old primary may not have sent is sent, and the
// agent re-initialises its ports. Arriving frames wait until the old primary,
// if it lives, has passed on what arrived there before. It reports false, and does
// nothing, where the door is closed.
func (g *guest) goLive() (spoken bool) {
	s := g.standby
	if !g.beginToSpeak(s) {
		return false
	}
	g.want(g.state.Peer())
	g.state.SetPeer("")
	g.state.CommittedTo(s.replica.Applied())
	if g.agent != nil {
		g.agent.Resume(s.replica.Applied(), true, g.role.Generation())
	}
	g.tell(replica.Header{Type: replica.TypeTookOver, Generation: g.role.Generation()}, replica.TookOver{Host: g.d.config.Host}.Append(nil))
	g.publish(status.Event{Kind: status.Running, Epoch: s.replica.Applied(), Message: "the machine runs here from the last committed epoch"})
	g.standby = nil
	g.asStandby.Store(nil)
	g.task(func() { g.finishTakeover(s) })
	g.task(g.repeatAnnouncement)
	return true
}

// lateInput is how long the old primary may pass on what reached its wire after
// the network had moved.
const lateInput = time.Second

// finishTakeover hands in what the old primary passes on, then what waits
// here, and ends the standby's part.
func (g *guest) finishTakeover(s *standby) {
	limit := context.AfterFunc(g.ctx, func() { s.link.Close(context.Canceled) })
	defer limit()
	timer := time.AfterFunc(time.Duration(g.d.config.Detection.Limit), func() { s.link.Close(errors.New("the old primary passes nothing on")) })
	defer timer.Stop()
	replayed := s.input.Replay(g.handIn)
	last := s.input.Last()
	passed := g.takeInput(s, &last)
	g.gate.OpenInput()
	g.log.Info("takeover: the ports are open", "replayed", replayed, "passed-on", passed)
	timer.Reset(lateInput)
	late := g.takeInput(s, &last)
	g.state.Replay(replayed + passed + late)
	s.link.Close(context.Canceled)
	s.close()
}

func (g *guest) handIn(port int, frame []byte) { g.gate.Inject(gate.Frame{Port: port, Data: frame}) }

// takeInput injects the frames that the old primary passes on and the log has
// not had, until it says that there are no more, or is gone.
func (g *guest) takeInput(s *standby, last *uint64) (frames int) {
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
			g.log.Warn("old primary passes on what cannot be read", "error", err)
			return frames
		}
		number := m.First
		for f, ok := m.Frames.Next(); ok; f, ok = m.Frames.Next() {
			if number > *last {
				g.handIn(int(f.Port), f.Data)
				*last = number
				frames++
			}
			number++
		}
	}
}

// repeatAnnouncement covers switches that missed the first.
func (g *guest) repeatAnnouncement() {
	const times, interval = 3, 300 * time.Millisecond
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for range times {
		select {
		case <-tick.C:
			g.announceAgain()
		case <-g.ctx.Done():
			return
		}
	}
}

// dropReplica ends the standby's part; the guest is forgotten here.
func (g *guest) dropReplica() {
	if s := g.standby; s != nil {
		s.farewell("its part in the pair is over")
	}
	g.qemu.Kill()
	g.stopStandby()
	g.d.retire(g)
}
