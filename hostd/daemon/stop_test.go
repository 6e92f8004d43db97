package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// mute grants claims and loses its answers, and from the first lost one on all others.
type mute struct {
	daemon.Arbiter
	mute, lost atomic.Bool
}

func (m *mute) Current(ctx context.Context, machine string) (arbiter.Record, error) {
	if m.mute.Load() && m.lost.Load() {
		return arbiter.Record{}, errDeaf
	}
	return m.Arbiter.Current(ctx, machine)
}

func (m *mute) TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	won, err := m.Arbiter.TestAndSet(ctx, expect, next)
	if m.mute.Load() {
		m.lost.Store(true)
		return arbiter.Record{}, arbiter.ErrOutcomeUnknown
	}
	return won, err
}

// TestAStopThatIsNotAnswered: the voice may be anybody's, so the machine keeps
// silent, and ends once the arbiter has answered.
func TestAStopThatIsNotAnswered(t *testing.T) {
	a, _ := pairOfHosts(t)
	m := &mute{Arbiter: a.store}
	a.restart(func() { a.asked = m })
	a.mustStart("m", "")
	m.mute.Store(true)
	_, err := a.client.StopMachine(a.ctx(), &control.MachineRequest{Name: "m"})
	mustFail(t, err, codes.Unavailable, "silent from now on")
	if r := a.record("m"); r.Voice != "" {
		t.Errorf("the arbiter says %+v", r)
	}
	if m := a.machine("m"); m == nil || !strings.Contains(strings.Join(m.Warnings, "\n"), "is being stopped") {
		t.Errorf("the status is %v", m)
	}
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "is being stopped")
	again := make(chan error, 1)
	go func() { again <- a.stop("m") }() // waits for the first
	m.mute.Store(false)
	a.await("the machine's end", func() bool { return a.machine("m") == nil })
	if err := <-again; status.Code(err) != codes.OK && status.Code(err) != codes.NotFound {
		t.Error(err)
	}
}

func (h *host) stop(name string) error {
	_, err := h.client.StopMachine(h.ctx(), &control.MachineRequest{Name: name})
	return err
}

func (h *host) switchover(name string) error {
	_, err := h.client.Switchover(h.ctx(), &control.MachineRequest{Name: name})
	return err
}

func (h *host) unprotect(name string) error {
	_, err := h.client.Unprotect(h.ctx(), &control.MachineRequest{Name: name})
	return err
}

// TestAStopDuringATakeover: the guest comes up after the voice was given up, or may
// have been. It never speaks.
func TestAStopDuringATakeover(t *testing.T) {
	for name, unseen := range map[string]bool{"granted": false, "not answered": true} {
		t.Run(name, func(t *testing.T) {
			a, b := pairOfHosts(t)
			m := &mute{Arbiter: b.store}
			reached, goOn := make(chan struct{}), make(chan struct{})
			var once, off sync.Once
			b.restartWith(func(label string, _ uint64) {
				if label == fault.TakingOver {
					once.Do(func() { close(reached) })
					<-goOn
				}
			}, func() { b.asked = m })
			t.Cleanup(func() { off.Do(func() { close(goOn) }) })
			events, err := b.client.Events(b.ctx(), &control.EventsRequest{Name: "m"})
			if err != nil {
				t.Fatal(err)
			}
			a.mustProtect("m", "")
			took := make(chan error, 1)
			go func() { took <- b.takeover("m") }()
			<-reached
			m.mute.Store(unseen)
			stopped := make(chan error, 1)
			go func() { stopped <- b.stop("m") }()
			b.await("the voice to be given up", func() bool { return b.record("m").Kind == "stopped" })
			off.Do(func() { close(goOn) })
			err = <-stopped
			if unseen {
				mustFail(t, err, codes.Unavailable, "silent from now on")
				m.mute.Store(false)
			} else if err != nil {
				t.Error(err)
			}
			b.gone("m")
			mustFail(t, <-took, codes.FailedPrecondition)
			for e, err := events.Recv(); err == nil && e.Kind != "stopped"; e, err = events.Recv() {
				if e.Kind == "running" || e.Kind == "solo" {
					t.Errorf("event %v", e)
				}
			}
			if r := b.record("m"); r.Voice != "" {
				t.Errorf("the arbiter says %+v", r)
			}
		})
	}
}

// TestAStopThatWasNotAsked changes nothing: the arbiter was never reached.
func TestAStopThatWasNotAsked(t *testing.T) {
	a, _ := pairOfHosts(t)
	d := &deaf{Arbiter: a.store}
	a.restart(func() { a.asked = d })
	a.mustProtect("m", "")
	a.mustStart("n", "")
	d.deaf.Store(true)
	for _, name := range []string{"m", "n"} {
		mustFail(t, a.stop(name), codes.FailedPrecondition, "not stopped")
	}
	epoch := a.machine("m").Epoch
	a.await("another epoch", func() bool { return a.machine("m").Epoch > epoch+1 })
	d.deaf.Store(false)
	for _, name := range []string{"m", "n"} {
		if err := a.stop(name); err != nil {
			t.Error(err)
		}
	}
}

// deaf cannot be asked.
type deaf struct {
	daemon.Arbiter
	deaf atomic.Bool
}

var errDeaf = errors.New("no quorum")

func (d *deaf) Current(ctx context.Context, machine string) (arbiter.Record, error) {
	if d.deaf.Load() {
		return arbiter.Record{}, errDeaf
	}
	return d.Arbiter.Current(ctx, machine)
}

func (d *deaf) TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	if d.deaf.Load() {
		return arbiter.Record{}, errDeaf
	}
	return d.Arbiter.TestAndSet(ctx, expect, next)
}

// TestAStopMeetsOtherCalls at the same moment: all are answered, and the machine has
// ended on the host that was told to stop it.
func TestAStopMeetsOtherCalls(t *testing.T) {
	calls := map[string]func(a, b *host) error{
		"stop":               func(a, b *host) error { return a.stop("m") },
		"protect":            func(a, b *host) error { return a.protect("m", "b") },
		"unprotect":          func(a, b *host) error { return a.unprotect("m") },
		"switchover":         func(a, b *host) error { return a.switchover("m") },
		"takeover":           func(a, b *host) error { return b.takeover("m") },
		"the standby's stop": func(a, b *host) error { return b.stop("m") },
	}
	// Alone, or already on its way to be protected by the host that was told to stop it.
	speaking := map[string]bool{"solo": true, "seeding": true, "protected": true}
	a, b := pairOfHosts(t)
	for name, call := range calls {
		for _, protected := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s,protected=%v", name, protected), func(t *testing.T) {
				for range 3 {
					a.mustStart("m", "")
					if protected {
						// b may be at the end of its last standby still.
						a.await("the protection", func() bool { return a.protect("m", "b") == nil })
					}
					var both sync.WaitGroup
					both.Go(func() { _ = call(a, b) })
					both.Go(func() { _ = a.stop("m") })
					both.Wait()
					a.gone("m")
					b.await("the record and the hosts to agree", func() bool {
						r, m := b.record("m"), b.machine("m")
						return r.Voice == "" && m == nil || r.Voice == "b" && m != nil && speaking[m.Role]
					})
					if b.machine("m") != nil {
						if err := b.stop("m"); err != nil {
							t.Error(err)
						}
					}
					a.gone("m")
				}
			})
		}
	}
}

// TestASwitchoverThatCannotBegin is refused at once: the arbiter has not answered
// whether the machine may go on alone.
func TestASwitchoverThatCannotBegin(t *testing.T) {
	a, b := pairOfHosts(t)
	m := &mute{Arbiter: a.store}
	a.restart(func() { a.asked = m })
	a.mustProtect("m", "")
	m.mute.Store(true)
	if err := syscall.Kill(int(b.machine("m").QemuPid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.gone("m")
	a.await("the machine to claim to go on alone", func() bool { return a.record("m").Kind == "solo" })
	mustFail(t, a.switchover("m"), codes.FailedPrecondition, "waits for the arbiter's answer")
	if err := os.WriteFile(b.config.QEMU.Binary, []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil { // it stays alone
		t.Fatal(err)
	}
	m.mute.Store(false)
	a.await("the machine to run alone", func() bool { return a.machine("m").Role != "protected" })
	mustFail(t, a.switchover("m"), codes.FailedPrecondition, "only a protected machine")
}
