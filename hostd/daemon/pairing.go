package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/api"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/hostd/warning"
)

// Protect seeds a standby and waits, if asked to, until the pair is protected.
func (d *Daemon) Protect(ctx context.Context, name, standby string, wait bool) (v status.View, err error) {
	g, err := d.running(name)
	if err != nil {
		return v, err
	}
	failures := g.state.Failures()
	if !g.protectedBy(standby) {
		if err := d.protectable(g, standby); err != nil {
			return v, api.Refuse(api.NotNow, "%v", err)
		}
		g.state.Ordered()
		if err := d.askOf(ctx, g, "protect", pair.Protect{Standby: standby}); err != nil {
			return v, err
		}
	}
	if !wait {
		return g.view(), nil
	}
	return d.await(ctx, g, "protect", func(role pair.Role) (bool, error) { return g.protectedSince(role, failures) })
}

// protectedSince tells what becomes of a protection that has begun.
func (g *guest) protectedSince(role pair.Role, failures uint64) (bool, error) {
	// The reason is known a moment before the role that follows from it.
	if why := g.state.FailedSince(failures); why != "" && role != pair.Seeding {
		return false, errors.New(why)
	}
	switch role {
	case pair.Protected:
		return true, nil
	case pair.Seeding:
		return false, nil
	case pair.Fenced:
		return false, errors.New("another host has the voice, or the machine was stopped")
	}
	if g.ended() {
		return false, g.qemu.Reason()
	}
	if g.qemuEnds() {
		return false, nil // until it is known why
	}
	return false, errors.New("the protection ended before it was complete; \"hostd events\" tells why")
}

// askOf has the role machine take an operator's event, and says why it is refused.
func (d *Daemon) askOf(ctx context.Context, g *guest, what string, e pair.Event) error {
	if err := g.ask(ctx, e); err != nil {
		return api.Refuse(api.NotNow, "%s machine %s: %v", what, g.name, err)
	}
	return nil
}

// protectedBy reports that the machine has that standby, or will in a moment.
func (g *guest) protectedBy(standby string) bool {
	role, _ := g.state.Role()
	return (role == pair.Protected || role == pair.Seeding) && g.state.Peer() == standby
}

func (d *Daemon) protectable(g *guest, standby string) error {
	switch role, _ := g.state.Role(); role {
	case pair.Unprotected, pair.Solo:
	default:
		return fmt.Errorf("machine %s is %s", g.name, role)
	}
	if standby == d.config.Host {
		return fmt.Errorf("host %s cannot be its own standby", standby)
	}
	if g.stopping.Load() != nil {
		return fmt.Errorf("machine %s is being stopped", g.name)
	}
	if g.ended() {
		return fmt.Errorf("QEMU of machine %s has ended; stop the machine and start it again", g.name)
	}
	if g.spec.Disk != nil && !g.spec.Disk.ReadOnly {
		return fmt.Errorf("machine %s has a writable disk, whose writes are not replicated yet; make it read-only or boot from kernel and initrd", g.name)
	}
	_, err := d.peerAddress(standby)
	return err
}

// Unprotect ends a protection; the machine runs on here alone.
func (d *Daemon) Unprotect(ctx context.Context, name string) (v status.View, err error) {
	g, err := d.running(name)
	if err != nil {
		return v, err
	}
	if err := d.unprotect(ctx, g); err != nil {
		return v, api.Refuse(api.NotNow, "%v", err)
	}
	return g.view(), nil
}

func (d *Daemon) unprotect(ctx context.Context, g *guest) error {
	g.state.Ordered()
	wanted := g.state.Wanted()
	g.want("") // before it is asked: a standby that is asked for afterwards is not wanted
	if err := g.ask(ctx, pair.Unprotect{}); err != nil {
		if role, _ := g.state.Role(); role == pair.Solo && wanted != "" && ctx.Err() == nil {
			return nil // it only waited for a standby
		}
		g.want(wanted)
		return fmt.Errorf("unprotect machine %s: %w", g.name, err)
	}
	err := g.await(ctx, func(role pair.Role) (bool, error) {
		switch role {
		case pair.Unprotected, pair.Solo:
			return true, nil
		case pair.Fenced:
			return false, errors.New("another host has the voice")
		}
		return false, nil
	})
	if err == nil {
		g.saveSoon(ctx)
	}
	return err
}

// Switchover moves a protected machine to its standby, losing nothing.
func (d *Daemon) Switchover(ctx context.Context, name string) (v status.View, err error) {
	g, err := d.running(name)
	if err != nil {
		return v, err
	}
	if err := g.fitsThere(); err != nil {
		return v, api.Refuse(api.NotNow, "switch over machine %s: %v; it stays here, protected, or move it all the same by \"hostd takeover %s\" there", g.name, err, g.name)
	}
	g.state.Ordered()
	failures := g.state.Failures()
	if err := d.askOf(ctx, g, "switch over", pair.SwitchoverAsked{}); err != nil {
		return v, err
	}
	return d.await(ctx, g, "switch over", func(role pair.Role) (bool, error) { return g.movedSince(role, failures) })
}

// movedSince tells what becomes of a switch-over that has begun.
func (g *guest) movedSince(role pair.Role, failures uint64) (bool, error) {
	if why := g.state.FailedSince(failures); why != "" {
		return false, errors.New(why)
	}
	switch role {
	case pair.Protected:
		return false, nil
	case pair.Fenced:
		if g.state.Report() == "machine-lost" {
			return false, errors.New("QEMU ended before the standby had the machine; it takes over what it holds")
		}
		return true, nil
	}
	return false, errors.New("the switch-over failed; the machine runs on here")
}

// Takeover makes a standby run the machine although its primary may live: the
// arbiter decides.
func (d *Daemon) Takeover(ctx context.Context, name string) (v status.View, err error) {
	g, err := d.running(name)
	if err != nil {
		return v, err
	}
	g.state.Ordered()
	failures := g.state.Failures()
	if err := d.askOf(ctx, g, "take over", pair.TakeoverAsked{}); err != nil {
		return v, err
	}
	return d.await(ctx, g, "take over", func(role pair.Role) (bool, error) {
		switch role {
		case pair.Standby, pair.TakingOver:
			if why := g.state.FailedSince(failures); why != "" {
				return false, errors.New(why)
			}
			return false, nil
		case pair.Fenced:
			return false, errors.New("the arbiter gave the voice to another host, or QEMU failed, or the machine was stopped: it is fenced here")
		}
		return true, nil // solo, or protected again by now
	})
}

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
