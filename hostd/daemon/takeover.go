package daemon

import (
	"context"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/standby"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// takeOver makes the waiting QEMU run from the last committed epoch. The arbiter has given
// this host the voice.
func (g *guest) takeOver(s *standby.Session) {
	ctx, cancel := context.WithTimeout(g.ctx, takeoverLimit)
	defer cancel()
	started := time.Now()
	if err := s.TakeOver(ctx); err != nil {
		g.log.Error("takeover failed", "error", err)
		g.post(pair.TakeoverFailed{Why: err.Error()})
		return
	}
	g.log.Info("takeover: the guest runs", "epoch", s.Applied(), "after", time.Since(started))
	g.post(pair.Running{})
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
	g.state.CommittedTo(s.Applied())
	if g.agent != nil {
		g.agent.Resume(s.Applied(), true, g.role.Generation())
	}
	g.tell(replica.Header{Type: replica.TypeTookOver, Generation: g.role.Generation()}, replica.TookOver{Host: g.d.config.Host}.Append(nil))
	g.publish(status.Event{Kind: status.Running, Epoch: s.Applied(), Message: "the machine runs here from the last committed epoch"})
	g.standby = nil
	g.asStandby.Store(nil)
	g.task(func() { s.Finish(g.ctx, g.d.detectionLimit()) })
	g.task(g.repeatAnnouncement)
	return true
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
		s.Farewell("its part in the pair is over")
	}
	g.qemu.Kill()
	g.stopStandby()
	g.d.retire(g)
}
