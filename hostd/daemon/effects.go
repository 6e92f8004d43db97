package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/primary"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

const (
	leaveLimit    = 30 * time.Second
	leaveRetry    = time.Second
	takeoverLimit = primary.HandoverLimit / 2
	claimLimit    = 3 * time.Second
	retryInterval = 200 * time.Millisecond
)

// carryOut does what the role machine says. What takes long, and may be
// waited for by nobody, is a task that answers with an event.
func (g *guest) carryOut(effect pair.Effect) {
	switch e := effect.(type) {
	case pair.ConnectStandby:
		g.startProtection(e.Peer)
	case pair.Seed:
		g.protection.Begin()
	case pair.Claim:
		g.task(func() { g.claim(e) })
	case pair.PassOutput, pair.Release, pair.GoLive:
		g.speaks(effect)
	case pair.StopWaits, pair.StopRefused, pair.Stopped:
		g.toldOfStop(effect)
	case pair.Ship:
		g.toProtection(func(p *primary.Session) { p.Ship(e.Epoch) })
	case pair.Silence:
		g.gate.Silence()
	case pair.ForwardInput:
		g.gate.DivertInput()
	case pair.EndInput:
		g.endInput()
	case pair.LeaveCOLO:
		g.leaveCOLO()
	case pair.LastEpoch:
		g.toProtection((*primary.Session).AskLast)
	case pair.HandOver:
		g.tell(replica.Header{Type: replica.TypeHandOver, Epoch: e.Epoch}, nil)
	case pair.NotifyMachineLost:
		g.tell(replica.Header{Type: replica.TypeMachineLost}, replica.MachineLost{Reason: "QEMU ended"}.Append(nil))
	case pair.NotifyRole:
		role := replica.Role{Generation: e.Generation, Role: string(pair.Standby)}
		g.tell(replica.Header{Type: replica.TypeRole, Generation: e.Generation}, role.Append(nil))
	case pair.KillMachine:
		g.qemu.Kill()
	case pair.CloseLink:
		g.closeLink()
	case pair.ScheduleRetry:
		g.task(g.retry)
	case pair.Report:
		if e.Kind == "error" {
			g.state.SetFailure(e.Message)
		}
		g.state.Reported(e.Kind)
		g.reports(e)
	default:
		g.carryOutStandby(effect)
	}
}

// reports tells what the role machine does; of an arbiter that is asked again and again, once.
func (g *guest) reports(r pair.Report) {
	if r.Kind == "arbiter" && r.Message == g.told {
		return
	}
	g.told = r.Message
	g.publish(status.Event{Kind: status.Kind(r.Kind), Message: r.Message})
}

// carryOutStandby does what only a standby is told.
func (g *guest) carryOutStandby(effect pair.Effect) {
	switch e := effect.(type) {
	case pair.Ack:
		g.standby.Acknowledge(e.Epoch, g.role.Generation())
	case pair.TakeOver:
		s := g.standby
		s.ExpectTakeover()
		g.task(func() { g.takeOver(s) })
	case pair.DropReplica:
		g.dropReplica()
	default:
		g.log.Error("effect not known", "effect", fmt.Sprintf("%T", effect))
	}
}

func (g *guest) toProtection(f func(*primary.Session)) {
	if g.protection != nil {
		f(g.protection)
	}
}

// tell sends a message to the other side of the pair; a broken link has its
// own event.
func (g *guest) tell(h replica.Header, payload []byte) {
	l := g.peerLink()
	if l == nil {
		return
	}
	if err := l.Send(h, payload); err != nil {
		g.log.Debug("message not sent", "type", h.Type, "error", err)
	}
}

// endCheckpoints stops the checkpoint loop; QEMU may be left in COLO.
func (g *guest) endCheckpoints() {
	if p := g.protection; p != nil {
		g.stopProtection()
		g.left = p.Capture()
	}
}

func (g *guest) leaveCOLO() {
	g.endCheckpoints()
	c := g.left
	if c == nil {
		return
	}
	g.left = nil
	g.gate.HoldInput() // QEMU may drop a packet that meets a stop
	defer g.gate.OpenInput()
	ctx, cancel := context.WithTimeout(g.ctx, leaveLimit)
	defer cancel()
	yank := time.AfterFunc(yankAfter, g.yank)
	defer yank.Stop()
	if err := c.Leave(ctx); err != nil {
		g.log.Error("the guest did not leave COLO; trying again", "error", err)
		g.publish(status.Event{Kind: status.Error, Message: err.Error()})
		g.leaving.Store(true)
		g.task(g.keepLeaving)
		return
	}
	g.hasLeft()
}

func (g *guest) hasLeft() {
	if g.agent != nil {
		g.agent.Resume(g.state.Epoch(), false, g.state.Generation())
	}
}

// keepLeaving frees a guest whose QEMU did not obey, until it does or ends. The
// guest is protected again only then.
func (g *guest) keepLeaving() {
	tick := time.NewTicker(leaveRetry)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-g.qemu.Exited():
			return
		case <-g.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(g.ctx, leaveLimit)
		err := capture.Free(ctx, g.qemu.Monitor())
		cancel()
		if err == nil {
			g.log.Info("the guest has left COLO")
			g.hasLeft()
			g.leaving.Store(false)
			return
		}
	}
}

func (g *guest) closeLink() {
	if l := g.peerLink(); l != nil {
		l.Close(errors.New("the pair ended"))
	}
}

func (g *guest) retry() {
	t := time.NewTimer(retryInterval)
	defer t.Stop()
	select {
	case <-t.C:
		g.post(pair.RetryDue{})
	case <-g.ctx.Done():
	}
}

func (g *guest) publish(e status.Event) {
	e.Machine = g.name
	e.Role, e.Generation = g.state.RoleNow()
	g.d.events.Publish(e)
}
