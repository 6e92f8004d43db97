package daemon_test

import (
	"context"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// hangsUp has the caller gone by the time at which its claim is granted.
type hangsUp struct {
	daemon.Arbiter
	caller context.CancelFunc
}

func (h *hangsUp) TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	won, err := h.Arbiter.TestAndSet(ctx, expect, next)
	if next.Voice != "" {
		h.caller()
		<-ctx.Done()
	}
	return won, err
}

// TestACallerWhoLeavesAStart leaves no voice behind: the machine may be started on any
// host.
func TestACallerWhoLeavesAStart(t *testing.T) {
	a, b := pairOfHosts(t)
	ctx, cancel := context.WithCancel(a.ctx())
	defer cancel()
	a.restart(func() { a.asked = &hangsUp{a.store, cancel} })
	if _, err := a.client.StartMachine(ctx, &control.StartMachineRequest{Spec: []byte(specOf("m", "")), File: "m.yaml"}); err == nil {
		t.Fatal("it was started")
	}
	a.await("the end of the start", func() bool { return a.record("m").Generation > 1 && a.machine("m") == nil })
	if r := a.record("m"); r.Voice != "" {
		t.Errorf("the arbiter says %+v", r)
	}
	b.mustStart("m", "")
}
