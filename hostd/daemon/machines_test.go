package daemon_test

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

func TestMachinesThatCannotStart(t *testing.T) {
	a, _ := pairOfHosts(t)
	_, err := a.start("m", "ends")
	mustFail(t, err, codes.Internal, "start machine m", "no such device", "exit status 1")
	if a.machine("m") != nil {
		t.Error("a machine that did not start is listed")
	}
	_, err = a.client.StartMachine(a.ctx(), &control.StartMachineRequest{Spec: []byte("name: [\n"), File: "m.yaml"})
	mustFail(t, err, codes.InvalidArgument, "m.yaml")
	a.mustStart("m", "")
	_, err = a.start("m", "")
	mustFail(t, err, codes.AlreadyExists, "machine m exists on host a")
	if err := os.Remove(a.config.QEMU.Binary); err != nil {
		t.Fatal(err)
	}
	_, err = a.start("other", "")
	mustFail(t, err, codes.Internal, a.config.QEMU.Binary, "no such file")
	if left, _ := os.ReadDir(a.config.RAMDir); len(left) != 1 {
		t.Errorf("RAM files: %v", left)
	}
}

func TestUnknownMachines(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("known", "")
	r := &control.MachineRequest{Name: "m"}
	calls := map[string]func(context.Context) error{
		"stop": func(ctx context.Context) error { _, err := a.client.StopMachine(ctx, r); return err },
		"status": func(ctx context.Context) error {
			_, err := a.client.Status(ctx, &control.StatusRequest{Name: "m"})
			return err
		},
		"unprotect":  func(ctx context.Context) error { _, err := a.client.Unprotect(ctx, r); return err },
		"switchover": func(ctx context.Context) error { _, err := a.client.Switchover(ctx, r); return err },
		"takeover":   func(ctx context.Context) error { _, err := a.client.Takeover(ctx, r); return err },
		"protect":    func(context.Context) error { return a.protect("m", "b") },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			mustFail(t, call(a.ctx()), codes.NotFound, `machine "m" is not on host a`, "known")
		})
	}
}

func TestRefusedProtections(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	mustFail(t, a.protect("m", "a"), codes.FailedPrecondition, "cannot be its own standby")
	mustFail(t, a.protect("m", "stranger"), codes.FailedPrecondition, `peer "stranger" is not in the configuration`)
	mustFail(t, a.protect("m", "nowhere"), codes.FailedPrecondition, "connection refused")
	_, err := a.client.Unprotect(a.ctx(), &control.MachineRequest{Name: "m"})
	mustFail(t, err, codes.FailedPrecondition, "unprotected")
	_, err = a.client.Takeover(a.ctx(), &control.MachineRequest{Name: "m"})
	mustFail(t, err, codes.FailedPrecondition, "only a standby")
	if m := a.machine("m"); m.Role != "unprotected" {
		t.Error(m.Role)
	}
	if err := a.protect("m", "b"); err != nil { // nothing of it sticks
		t.Error(err)
	}
	if err := a.protect("m", "b"); err != nil { // it is what was asked for
		t.Error(err)
	}
	mustFail(t, a.protect("m", "nowhere"), codes.FailedPrecondition, "machine m is protected")
}

func TestAStandbyThatCannotStart(t *testing.T) {
	a, b := pairOfHosts(t)
	a.mustStart("m", "")
	if err := os.WriteFile(b.config.QEMU.Binary, []byte("#!/bin/sh\necho no KVM today >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "the standby refuses", "no KVM today")
	if m := a.machine("m"); m.Role != "unprotected" {
		t.Error(m.Role)
	}
	if m := b.machine("m"); m != nil {
		t.Errorf("b lists %v", m)
	}
}

// TestFalseQEMUs: one machine's QEMU breaks COLO, the machine runs on as far
// as it can, and the others do not notice.
func TestFalseQEMUs(t *testing.T) {
	a, b := pairOfHosts(t)
	w := protectWitness(a)
	for mode, text := range map[string]string{
		"garbage":        "magic",
		"hangs up":       "EOF",
		"dies":           "so the test wants it",
		"bad checkpoint": "malformed",
		"large device":   "device state",
	} {
		t.Run(mode, func(t *testing.T) {
			name := strings.ReplaceAll(mode, " ", "-")
			a.mustStart(name, mode)
			mustFail(t, a.protect(name, "b"), codes.FailedPrecondition, text)
			if m := a.machine(name); m.Role != "unprotected" {
				t.Error(m.Role)
			}
			w.check()
			b.await("the standby to be dropped", func() bool { return b.machine(name) == nil })
			if _, err := a.client.StopMachine(a.ctx(), &control.MachineRequest{Name: name}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStoppingMachines(t *testing.T) {
	a, b := pairOfHosts(t)
	w := protectWitness(a)
	a.mustStart("m", "")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := a.client.StopMachine(a.ctx(), &control.MachineRequest{Name: "m"}); err != nil {
			t.Fatal(err)
		}
		b.await("the standby to go", func() bool { return b.machine("m") == nil })
		w.check()
		a.mustStart("m", "") // the name is free again
	}
}

func TestControlSocketInUse(t *testing.T) {
	a, _ := pairOfHosts(t)
	c := a.config
	c.Listen = freeAddress(t)
	store, err := arbiter.OpenDirectory(c.Arbiter.Directory)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := daemon.Serve(a.ctx(), options(c, store)); err == nil || !strings.Contains(err.Error(), "another hostd serves "+c.ControlSocket) {
		t.Error(err)
	}
	c.ControlSocket += ".other"
	c.Listen = a.config.Listen
	if err := daemon.Serve(a.ctx(), options(c, store)); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Error(err)
	}
	if a.machine("m") != nil {
		t.Error("the first daemon does not serve any more")
	}
}

// forgetful grants claims, and knows of none while it has forgotten.
type forgetful struct {
	daemon.Arbiter
	forgot atomic.Bool
}

func (f *forgetful) Current(ctx context.Context, machine string) (arbiter.Record, error) {
	if f.forgot.Load() {
		return arbiter.Record{Machine: machine}, nil
	}
	return f.Arbiter.Current(ctx, machine)
}

func (f *forgetful) TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	won, err := f.Arbiter.TestAndSet(ctx, expect, next)
	f.forgot.Store(next.Kind == "started")
	return won, err
}

// TestAStartThatFailsWhileTheArbiterForgets: nobody else has the voice, so this host
// keeps it, and says so.
func TestAStartThatFailsWhileTheArbiterForgets(t *testing.T) {
	a, b := pairOfHosts(t)
	f := &forgetful{Arbiter: a.store}
	a.restart(func() { a.asked = f })
	_, err := a.start("m", "ends")
	mustFail(t, err, codes.Internal, "no such device", "release the voice of machine m", "this host keeps it")
	f.forgot.Store(false)
	_, err = b.start("m", "")
	mustFail(t, err, codes.Internal, "host a does for m")
	a.mustStart("m", "")
	f.forgot.Store(false)
}
