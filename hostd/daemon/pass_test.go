package daemon_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// TestOutputPassesAfterARefusedStop: everything goes on as before, the policy too.
func TestOutputPassesAfterARefusedStop(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	makeUplink(t, "up-m", "net-m")
	a, _ := pairOfHosts(t)
	d := &deaf{Arbiter: a.store}
	a.restart(func() { a.asked = d })
	a.startWired("m", "output: pass, checkpoint: periodic, interval: 1m, max-epoch: 1m")
	tap, net := openTap(t, "tap-m"), listenOn(t, "net-m")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	leaves := func(text string) {
		t.Helper()
		if _, err := tap.Write(guestFrame(text, 60)); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); !net.hears(text); time.Sleep(5 * time.Millisecond) {
			if time.Since(began) > 10*time.Second {
				t.Fatalf("frame %q is held: %v", text, a.machine("m").Output)
			}
		}
	}
	leaves("before")
	d.deaf.Store(true)
	mustFail(t, a.stop("m"), codes.FailedPrecondition, "not stopped")
	d.deaf.Store(false)
	if m := a.machine("m"); m.Role != "protected" {
		t.Fatalf("it is %v", m)
	}
	leaves("after")
}

// slowGrant answers a takeover when it is told to.
type slowGrant struct {
	daemon.Arbiter
	asked, answer chan struct{}
}

func (s *slowGrant) TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	r, err := s.Arbiter.TestAndSet(ctx, expect, next)
	if next.Kind == "takeover" {
		close(s.asked)
		<-s.answer
	}
	return r, err
}

// TestAStopAmidATakeoverSilencesTheOldPrimary, which lives and lets output pass as long as
// it hears the host that took over: once the machine is stopped any host may start it.
func TestAStopAmidATakeoverSilencesTheOldPrimary(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	makeUplink(t, "up-m", "net-m")
	a, b := pairOfHosts(t)
	s := &slowGrant{Arbiter: b.store, asked: make(chan struct{}), answer: make(chan struct{})}
	b.restart(func() { b.asked = s })
	a.startWired("m", "output: pass, checkpoint: periodic, interval: 1m, max-epoch: 1m")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	defer calls.Wait()
	calls.Go(func() { b.client.Takeover(b.ctx(), &control.MachineRequest{Name: "m"}) })
	<-s.asked
	calls.Go(func() { b.stop("m") })
	b.await("the stop", func() bool { return warns(b.machine("m"), "is being stopped") })
	close(s.answer)
	a.await("the machine to be stopped", func() bool { return a.record("m").Voice == "" })
	if m := a.machine("m"); m.Role != "fenced" {
		t.Errorf("host a is %s, and hears b as long as the answer takes", m.Role)
	}
}
