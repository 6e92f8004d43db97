package daemon_test

import (
	"context"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// mute grants claims and loses its answers.
type mute struct {
	daemon.Arbiter
	mute atomic.Bool
}

func (m *mute) TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	won, err := m.Arbiter.TestAndSet(ctx, expect, next)
	if m.mute.Load() {
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
	if a.machine("m") == nil {
		t.Error("the machine is not listed any more")
	}
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "is being stopped")
	_, err = a.client.StopMachine(a.ctx(), &control.MachineRequest{Name: "m"})
	mustFail(t, err, codes.Aborted, "another call")
	m.mute.Store(false)
	a.await("the machine's end", func() bool { return a.machine("m") == nil })
}
