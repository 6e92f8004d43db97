package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// Protect seeds a standby and waits, if asked to, until the pair is protected.
func (a *api) Protect(ctx context.Context, r *control.ProtectRequest) (*control.Machine, error) {
	g, err := a.running(r.Name)
	if err != nil {
		return nil, err
	}
	failures := g.board.failuresNow()
	if !g.protectedBy(r.Standby) {
		if err := a.d.protectable(g, r.Standby); err != nil {
			return nil, status.Error(codes.FailedPrecondition, err.Error())
		}
		g.board.ordered()
		if err := a.ask(ctx, g, "protect", pair.Protect{Standby: r.Standby}); err != nil {
			return nil, err
		}
	}
	if !r.Wait {
		return g.status(), nil
	}
	return a.await(ctx, g, "protect", func(role string) (bool, error) { return g.protectedSince(role, failures) })
}

// protectedSince tells what becomes of a protection that has begun.
func (g *guest) protectedSince(role string, failures uint64) (bool, error) {
	// The reason is known a moment before the role that follows from it.
	if why := g.board.failedSince(failures); why != "" && role != string(pair.Seeding) {
		return false, errors.New(why)
	}
	switch role {
	case string(pair.Protected):
		return true, nil
	case string(pair.Seeding):
		return false, nil
	case string(pair.Fenced):
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

// ask has the role machine take an operator's event, and says why it is refused.
func (a *api) ask(ctx context.Context, g *guest, what string, e pair.Event) error {
	if err := g.ask(ctx, e); err != nil {
		return status.Errorf(codes.FailedPrecondition, "%s machine %s: %v", what, g.name, err)
	}
	return nil
}

// protectedBy reports that the machine has that standby, or will in a moment.
func (g *guest) protectedBy(standby string) bool {
	role, _ := g.board.role()
	return (role == string(pair.Protected) || role == string(pair.Seeding)) && g.board.peer() == standby
}

func (d *Daemon) protectable(g *guest, standby string) error {
	switch role, _ := g.board.role(); role {
	case string(pair.Unprotected), string(pair.Solo):
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
func (a *api) Unprotect(ctx context.Context, r *control.MachineRequest) (*control.Machine, error) {
	g, err := a.running(r.Name)
	if err != nil {
		return nil, err
	}
	if err := a.d.unprotect(ctx, g); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return g.status(), nil
}

func (d *Daemon) unprotect(ctx context.Context, g *guest) error {
	g.board.ordered()
	wanted := g.board.wanted()
	g.want("") // before it is asked: a standby that is asked for afterwards is not wanted
	if err := g.ask(ctx, pair.Unprotect{}); err != nil {
		if role, _ := g.board.role(); role == string(pair.Solo) && wanted != "" && ctx.Err() == nil {
			return nil // it only waited for a standby
		}
		g.want(wanted)
		return fmt.Errorf("unprotect machine %s: %w", g.name, err)
	}
	err := g.await(ctx, func(role string) (bool, error) {
		switch role {
		case string(pair.Unprotected), string(pair.Solo):
			return true, nil
		case string(pair.Fenced):
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
func (a *api) Switchover(ctx context.Context, r *control.MachineRequest) (*control.Machine, error) {
	g, err := a.running(r.Name)
	if err != nil {
		return nil, err
	}
	if err := g.fitsThere(); err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "switch over machine %s: %v; it stays here, protected, or move it all the same by \"hostd takeover %s\" there", g.name, err, g.name)
	}
	g.board.ordered()
	failures := g.board.failuresNow()
	if err := a.ask(ctx, g, "switch over", pair.SwitchoverAsked{}); err != nil {
		return nil, err
	}
	return a.await(ctx, g, "switch over", func(role string) (bool, error) { return g.movedSince(role, failures) })
}

// movedSince tells what becomes of a switch-over that has begun.
func (g *guest) movedSince(role string, failures uint64) (bool, error) {
	if why := g.board.failedSince(failures); why != "" {
		return false, errors.New(why)
	}
	switch role {
	case string(pair.Protected):
		return false, nil
	case string(pair.Fenced):
		if g.board.report() == "machine-lost" {
			return false, errors.New("QEMU ended before the standby had the machine; it takes over what it holds")
		}
		return true, nil
	}
	return false, errors.New("the switch-over failed; the machine runs on here")
}

// Takeover makes a standby run the machine although its primary may live: the
// arbiter decides.
func (a *api) Takeover(ctx context.Context, r *control.MachineRequest) (*control.Machine, error) {
	g, err := a.running(r.Name)
	if err != nil {
		return nil, err
	}
	g.board.ordered()
	failures := g.board.failuresNow()
	if err := a.ask(ctx, g, "take over", pair.TakeoverAsked{}); err != nil {
		return nil, err
	}
	return a.await(ctx, g, "take over", func(role string) (bool, error) {
		switch role {
		case string(pair.Standby), string(pair.TakingOver):
			if why := g.board.failedSince(failures); why != "" {
				return false, errors.New(why)
			}
			return false, nil
		case string(pair.Fenced):
			return false, errors.New("the arbiter gave the voice to another host, or QEMU failed, or the machine was stopped: it is fenced here")
		}
		return true, nil // solo, or protected again by now
	})
}

// status gathers what an operator wants to know of a machine.
func (g *guest) status() *control.Machine {
	if g.earlier != nil {
		return g.statusLeft()
	}
	s := g.gate.Stats()
	m := &control.Machine{Name: g.name, QemuPid: int64(g.qemu.Pid()), Accel: g.d.accel, Agent: g.agentState(),
		CheckpointPolicy: g.spec.Protection.Checkpoint, OutputPolicy: g.spec.Protection.Output,
		Console:  g.spec.Console,
		Output:   &control.Output{HeldFrames: uint64(s.HeldFrames), HeldBytes: uint64(s.HeldBytes), Released: s.Released, Dropped: s.Dropped, Resent: s.Resent},
		Input:    &control.Input{Held: uint64(s.InputHeld), Delivered: s.InputDelivered, Dropped: s.InputDropped, Late: s.InputLate, Logged: s.Logged, Unlogged: s.Unlogged},
		InputLog: g.spec.Protection.InputLog,
	}
	g.board.fill(m)
	m.Quiescence = g.quiescence()
	m.Warnings = g.warnings(m)
	if g.ended() {
		m.QemuPid = 0
	}
	return m
}

// statusLeft is of a machine of an earlier daemon that waits.
func (g *guest) statusLeft() *control.Machine {
	m := &control.Machine{Name: g.name, QemuPid: int64(g.earlier.foundPid()), Accel: g.d.accel, Agent: "none",
		CheckpointPolicy: g.spec.Protection.Checkpoint, OutputPolicy: g.spec.Protection.Output, Console: g.spec.Console,
		Output: &control.Output{}, Input: &control.Input{}, InputLog: g.spec.Protection.InputLog}
	g.board.fill(m)
	m.Warnings = []string{"an earlier daemon left this machine; it is silent, and waits to be adopted"}
	if why := g.board.lastFailure(); why != "" {
		m.Warnings = []string{"an earlier daemon left this machine; it is silent, and waits to be adopted: " + why}
	}
	return m
}

func (g *guest) agentState() string {
	if g.agent == nil {
		return "none"
	}
	return g.agent.State().Presence.String()
}

func (g *guest) quiescence() string {
	if g.agentState() == "none" {
		return "no agent"
	}
	if g.board.lastForced() {
		return "forced"
	}
	return "quiesced"
}

// arbiterPatience is how long an answer may take before an operator hears of it.
const arbiterPatience = time.Second

func (g *guest) warnings(m *control.Machine) []string {
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
	if torn := g.board.torn(); torn > 0 {
		w = append(w, tornMessage(torn))
	}
	if g.stopping.Load() != nil {
		w = append(w, isStopped)
	}
	if claim, since, said := g.board.unanswered(); since > arbiterPatience {
		w = append(w, arbiterWarning(claim, since, said))
	}
	if standby := g.board.wanted(); standby != "" && m.Role == string(pair.Solo) {
		w = append(w, fmt.Sprintf("not protected: host %s, or a spare, becomes the standby as soon as it can be reached; \"hostd unprotect\" ends the waiting", standby))
	}
	if peer, r := g.board.retryNow(); r.Failures() > 0 && m.Role == string(pair.Solo) {
		w = append(w, retryWarning(g.name, peer, r, time.Now()))
	}
	if why := g.board.unsavedNow(); why != "" {
		w = append(w, why)
	}
	if why := g.board.lastFailure(); why != "" {
		w = append(w, "the last protection failed: "+why)
	}
	return w
}

const isStopped = "the machine is being stopped: it is silent, and ends as soon as the arbiter answers"

// warningsOfDead are of a machine whose QEMU has ended.
func (g *guest) warningsOfDead() []string {
	what := "the machine does not run here"
	if role, _ := g.board.role(); role == string(pair.Fenced) {
		what += ": its standby has it, or takes it over once the arbiter answers"
	} else {
		what += "; \"hostd vm stop\" ends what is left, \"hostd vm start\" starts it again"
	}
	w := []string{fmt.Sprintf("%v; %s", g.qemu.Reason(), what)}
	if g.stopping.Load() != nil {
		w = append(w, isStopped)
	}
	if claim, since, said := g.board.unanswered(); since > arbiterPatience {
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
