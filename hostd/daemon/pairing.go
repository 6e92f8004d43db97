package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// Protect seeds a standby and waits, if asked to, until the pair is protected.
func (a *api) Protect(ctx context.Context, r *control.ProtectRequest) (*control.Machine, error) {
	g, err := a.guest(r.Name)
	if err != nil {
		return nil, err
	}
	if !g.protectedBy(r.Standby) {
		if err := a.d.protectable(g, r.Standby); err != nil {
			return nil, status.Error(codes.FailedPrecondition, err.Error())
		}
		g.board.setFailure("")
		g.post(pair.Protect{Standby: r.Standby})
	}
	if !r.Wait {
		return g.status(), nil
	}
	began := false
	return a.await(ctx, g, "protect", func(role string) (bool, error) {
		began = began || role == string(pair.Seeding)
		// The reason is known a moment before the role that follows from it.
		if why := g.board.lastFailure(); why != "" && role != string(pair.Seeding) {
			return false, errors.New(why)
		}
		if g.ended() && role != string(pair.Seeding) {
			return false, g.qemu.Reason()
		}
		if role == string(pair.Fenced) {
			return false, errors.New("another host has the voice")
		}
		if began && (role == string(pair.Unprotected) || role == string(pair.Solo)) {
			return false, errors.New("the protection ended before it was complete; \"hostd events\" tells why")
		}
		return role == string(pair.Protected), nil
	})
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
	if g.stopping.Load() {
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
	g, err := a.guest(r.Name)
	if err != nil {
		return nil, err
	}
	if err := a.d.unprotect(ctx, g); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return g.status(), nil
}

func (d *Daemon) unprotect(ctx context.Context, g *guest) error {
	switch role, _ := g.board.role(); role {
	case string(pair.Protected), string(pair.Seeding):
	case string(pair.Solo):
		if g.board.wanted() != "" { // it waits for a standby
			g.want("")
			return nil
		}
		fallthrough
	default:
		return fmt.Errorf("machine %s is %s: there is no protection to end", g.name, role)
	}
	g.want("")
	g.post(pair.Unprotect{})
	return g.await(ctx, func(role string) (bool, error) {
		switch role {
		case string(pair.Unprotected), string(pair.Solo):
			return true, nil
		case string(pair.Fenced):
			return false, errors.New("another host has the voice")
		}
		return false, nil
	})
}

// Switchover moves a protected machine to its standby, losing nothing.
func (a *api) Switchover(ctx context.Context, r *control.MachineRequest) (*control.Machine, error) {
	g, err := a.guest(r.Name)
	if err != nil {
		return nil, err
	}
	if role, _ := g.board.role(); role != string(pair.Protected) {
		return nil, status.Errorf(codes.FailedPrecondition, "machine %s is %s: only a protected machine, on the host where it runs, can be switched over", g.name, role)
	}
	g.board.setFailure("")
	g.post(pair.SwitchoverAsked{})
	return a.await(ctx, g, "switch over", func(role string) (bool, error) {
		if why := g.board.lastFailure(); why != "" {
			return false, errors.New(why)
		}
		return role == string(pair.Fenced), nil
	})
}

// Takeover makes a standby run the machine although its primary may live: the
// arbiter decides.
func (a *api) Takeover(ctx context.Context, r *control.MachineRequest) (*control.Machine, error) {
	g, err := a.guest(r.Name)
	if err != nil {
		return nil, err
	}
	if role, _ := g.board.role(); role != string(pair.Standby) {
		return nil, status.Errorf(codes.FailedPrecondition, "machine %s is %s on host %s: only a standby can take over", g.name, role, a.d.config.Host)
	}
	g.board.setFailure("")
	g.post(pair.TakeoverAsked{})
	return a.await(ctx, g, "take over", func(role string) (bool, error) {
		switch role {
		case string(pair.Solo):
			return true, nil
		case string(pair.Standby), string(pair.TakingOver):
			if why := g.board.lastFailure(); why != "" {
				return false, errors.New(why)
			}
			return false, nil
		}
		return false, fmt.Errorf("the arbiter gave the voice to another host, or QEMU failed: the machine is %s", role)
	})
}

// status gathers what an operator wants to know of a machine.
func (g *guest) status() *control.Machine {
	s := g.gate.Stats()
	m := &control.Machine{Name: g.name, QemuPid: int64(g.qemu.Pid()), Accel: g.d.accel, Agent: g.agentState(),
		CheckpointPolicy: g.spec.Protection.Checkpoint, OutputPolicy: g.spec.Protection.Output,
		Console:  g.spec.Console,
		Output:   &control.Output{HeldFrames: uint64(s.HeldFrames), HeldBytes: uint64(s.HeldBytes), Released: s.Released, Dropped: s.Dropped, Resent: s.Resent},
		Input:    &control.Input{Held: uint64(s.InputHeld), Delivered: s.InputDelivered, Dropped: s.InputDropped, Logged: s.Logged, Unlogged: s.Unlogged},
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
	w = append(w, g.uplinkWarnings()...)
	if claim, since := g.board.unanswered(); since > arbiterPatience {
		w = append(w, fmt.Sprintf("the arbiter has not answered the claim %q for %v: output waits, because the other host may have the voice; bring a majority of the arbiter's members back and the machine goes on by itself, here or there", claim, since.Round(time.Second)))
	}
	if standby := g.board.wanted(); standby != "" && m.Role == string(pair.Solo) {
		w = append(w, fmt.Sprintf("not protected: host %s, or a spare, becomes the standby as soon as it can be reached; \"hostd unprotect\" ends the waiting", standby))
	}
	if why := g.board.lastFailure(); why != "" {
		w = append(w, "the last protection failed: "+why)
	}
	return w
}
