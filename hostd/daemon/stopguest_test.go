package daemon

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
)

// TestAStopOfAGuestThatEnds asks nothing of it: an earlier stop may be on its way, whose
// caller has been told that the daemon ends, and one guest has one stop at a time.
func TestAStopOfAGuestThatEnds(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	g := &guest{d: &Daemon{ctx: ended}, name: "m", ctx: ended, events: make(chan pair.Event, 1)}
	released := false
	err := g.d.stopGuest(t.Context(), g, func() { released = true })
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if !released || len(g.events) != 0 || g.stopping.Load() != nil {
		t.Errorf("released %v, %d events, stopping %v", released, len(g.events), g.stopping.Load())
	}
}
