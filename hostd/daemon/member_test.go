package daemon

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

// brittle is a member that a test ends.
type brittle struct {
	down    atomic.Value
	changed chan struct{}
}

func (b *brittle) Down() string             { return b.down.Load().(string) }
func (b *brittle) Changed() <-chan struct{} { return b.changed }

// TestTheMembersEndIsTold in the status and by an event, and its return too.
func TestTheMembersEndIsTold(t *testing.T) {
	const broken = "it is down: bad page"
	m := &brittle{changed: make(chan struct{})}
	m.down.Store("")
	ctx, end := context.WithCancel(t.Context())
	d := &Daemon{member: m, ctx: ctx}
	d.tasks.Go(d.watchMember)
	defer d.tasks.Wait()
	defer end()
	_, events, cancel := d.events.Subscribe()
	defer cancel()
	if w := d.hostWarnings(); len(w) > 0 {
		t.Errorf("warnings %q of a member that runs", w)
	}
	m.down.Store(broken)
	m.changed <- struct{}{}
	heard(t, events, broken)
	if w := d.hostWarnings(); !slices.Equal(w, []string{broken}) {
		t.Errorf("warnings %q", w)
	}
	m.down.Store("")
	m.changed <- struct{}{}
	heard(t, events, "the arbiter's member on this host runs again")
}

func heard(t *testing.T, events <-chan *status.Event, message string) {
	t.Helper()
	if e := <-events; e.Kind != status.Arbiter || e.Machine != "" || e.Message != message {
		t.Errorf("event %v", e)
	}
}
