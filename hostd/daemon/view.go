package daemon

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/hostd/warning"
)

// view gathers what an operator wants to know of a machine.
func (g *guest) view() status.View {
	v := status.View{Snapshot: g.state.Snapshot(), Name: g.name, Accel: g.d.accel, Agent: "none",
		CheckpointPolicy: g.spec.Protection.Checkpoint, OutputPolicy: g.spec.Protection.Output, InputLog: g.spec.Protection.InputLog,
		Console: g.spec.Console}
	if g.earlier != nil {
		v.PID, v.Warnings = g.earlier.foundPid(), []string{warning.OfLeft(g.state.LastFailure())}
		return v
	}
	if !g.ended() {
		v.PID = g.qemu.Pid()
	}
	s := g.gate.Stats()
	v.Output = status.Output{HeldFrames: uint64(s.HeldFrames), HeldBytes: uint64(s.HeldBytes), Released: s.Released, Dropped: s.Dropped, Resent: s.Resent}
	v.Input = status.Input{Held: uint64(s.InputHeld), Delivered: s.InputDelivered, Dropped: s.InputDropped, Late: s.InputLate, Logged: s.Logged, Unlogged: s.Unlogged}
	v.Agent = g.agentState()
	v.Quiescence = quiescence(v)
	v.Warnings = warning.Of(g.facts(v, s))
	return v
}

func (g *guest) agentState() string {
	if g.agent == nil {
		return "none"
	}
	return g.agent.State().Presence.String()
}

func quiescence(v status.View) string {
	switch {
	case v.Agent == "none":
		return "no agent"
	case v.Forced:
		return "forced"
	}
	return "quiesced"
}

// facts for an operator who is to be warned.
func (g *guest) facts(v status.View, s gate.Stats) warning.Facts {
	f := warning.Facts{View: v, Links: g.gate.Links(), There: g.linksThere(), Lost: s, Stopping: g.stopping.Load() != nil,
		Unsaved: g.state.Unsaved(), Failure: g.state.LastFailure(), Now: time.Now()}
	f.Claim, f.Claimed, f.Said = g.state.Unanswered()
	f.RetryWith, f.Retry = g.state.Retry()
	if g.ended() {
		f.Ended = g.qemu.Reason()
	}
	return f
}

// linkChanged tells that one end of a port's wire carries nothing, or does again.
func (g *guest) linkChanged(l gate.Link) {
	role, _ := g.state.RoleNow()
	g.publish(warning.LinkEvent(g.name, role, l))
	if s := g.asStandby.Load(); s != nil {
		s.LinkChanged()
	}
}

// fitsThere says why the machine should not move to its standby now, and what to do.
func (g *guest) fitsThere() error {
	return warning.FitsThere(g.name, g.state.Peer(), g.gate.Links(), g.linksThere())
}

func (g *guest) setLinksThere(all []gate.Link) { g.there.Store(&all) }

// linksThere are the standby's of each port, as it has told last; none if it has not.
func (g *guest) linksThere() []gate.Link {
	if all := g.there.Load(); all != nil {
		return *all
	}
	return nil
}
