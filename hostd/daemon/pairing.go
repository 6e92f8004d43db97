package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/api"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/hostd/primary"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
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
		v.PID, v.Warnings = g.earlier.foundPid(), []string{leftWarning(g.state.LastFailure())}
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
	v.Warnings = g.warnings(v)
	return v
}

// leftWarning is of a machine of an earlier daemon that waits, and why if that is known.
func leftWarning(why string) string {
	w := "an earlier daemon left this machine; it is silent, and waits to be adopted"
	if why != "" {
		w += ": " + why
	}
	return w
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

// arbiterPatience is how long an answer may take before an operator hears of it.
const arbiterPatience = time.Second

func (g *guest) warnings(m status.View) []string {
	if g.ended() {
		return g.warningsOfDead()
	}
	var w []string
	if m.Quiescence == "no agent" {
		w = append(w, "no agent in the guest: checkpoints are taken without quiescence, so they are larger")
	}
	if m.OutputPolicy == "pass" {
		w = append(w, "output is not held: after a takeover the network may have seen packets that the machine does not remember")
	}
	if m.Input.Unlogged > 0 {
		w = append(w, fmt.Sprintf("%d packets reached the machine without being logged: limits.held-input was reached; they are lost if this host dies before the next commit", m.Input.Unlogged))
	}
	if m.Output.Dropped > 0 {
		w = append(w, fmt.Sprintf("%d frames of output were dropped: limits.held-output was reached, or the machine had no voice", m.Output.Dropped))
	}
	w = append(w, g.linkWarnings(m.Role)...)
	if m.Torn > 0 {
		w = append(w, primary.TornMessage(m.Torn))
	}
	if g.stopping.Load() != nil {
		w = append(w, isStopped)
	}
	if claim, since, said := g.state.Unanswered(); since > arbiterPatience {
		w = append(w, arbiterWarning(claim, since, said))
	}
	if standby := g.state.Wanted(); standby != "" && m.Role == pair.Solo {
		w = append(w, fmt.Sprintf("not protected: host %s, or a spare, becomes the standby as soon as it can be reached; \"hostd unprotect\" ends the waiting", standby))
	}
	if peer, r := g.state.Retry(); r.Failures() > 0 && m.Role == pair.Solo {
		w = append(w, retryWarning(g.name, peer, r, time.Now()))
	}
	if why := g.state.Unsaved(); why != "" {
		w = append(w, why)
	}
	if why := g.state.LastFailure(); why != "" {
		w = append(w, "the last protection failed: "+why)
	}
	return w
}

const isStopped = "the machine is being stopped: it is silent, and ends as soon as the arbiter answers"

// warningsOfDead are of a machine whose QEMU has ended.
func (g *guest) warningsOfDead() []string {
	what := "the machine does not run here"
	if role, _ := g.state.Role(); role == pair.Fenced {
		what += ": its standby has it, or takes it over once the arbiter answers"
	} else {
		what += "; \"hostd vm stop\" ends what is left, \"hostd vm start\" starts it again"
	}
	w := []string{fmt.Sprintf("%v; %s", g.qemu.Reason(), what)}
	if g.stopping.Load() != nil {
		w = append(w, isStopped)
	}
	if claim, since, said := g.state.Unanswered(); since > arbiterPatience {
		w = append(w, arbiterWarning(claim, since, said))
	}
	return w
}

// arbiterWarning is of a claim that is not decided.
func arbiterWarning(claim string, since time.Duration, said string) string {
	if said != "" {
		said = " (" + said + ")"
	}
	return fmt.Sprintf("the arbiter has not decided the claim %q for %v%s: output waits, because the other host may have the voice; bring the arbiter back (docs/arbiter.md), and the machine goes on by itself, here or there",
		claim, since.Round(time.Second), said)
}

// retryWarning is of a machine that is not protected again at once.
func retryWarning(machine, peer string, r policy.Retry, now time.Time) string {
	return fmt.Sprintf("protecting it again with host %s has failed %d times in a row; the next try is in %v, \"hostd protect %s --standby %s\" is one at once",
		peer, r.Failures(), max(r.At().Sub(now), 0).Round(time.Second), machine, peer)
}
