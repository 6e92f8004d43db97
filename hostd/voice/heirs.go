package voice

import (
	"context"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
)

// An old primary lets committed output leave for detection.limit after it has sent the
// epoch, although the machine has been taken over meanwhile (hostd/primary, release.go): the heir
// remembers it. A machine that was stopped, or started anew, does not. So the heir waits
// out that time before it lets go of the machine's past.

// Heirs tells until when the old primaries of machines may be heard. Its methods may be
// called concurrently.
type Heirs struct {
	host  string
	limit time.Duration
	// began is when this daemon did: a machine that it has neither started nor taken over
	// may have a past of an earlier one.
	began time.Time
	mu    sync.Mutex
	known map[string]past
	// earlier are limits under which earlier daemons were in pairs.
	earlier map[string]time.Duration
}

// past of a machine: the generation that began it, and until when it may be heard; zero
// for a machine that was started here.
type past struct {
	generation uint64
	until      time.Time
}

func newHeirs(host string, limit time.Duration) *Heirs {
	return &Heirs{host: host, limit: limit, began: time.Now(), known: map[string]past{}, earlier: map[string]time.Duration{}}
}

// stands notes a record of a machine that the arbiter has told. One by which this host has taken the
// machine over begins its past when it is seen first: a claim of an earlier daemon may
// have landed just now.
func (h *Heirs) stands(machine string, r arbiter.Record) {
	if r.Voice != h.host || r.Kind != Takeover && r.Kind != Handover {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Generation != h.known[machine].generation {
		h.known[machine] = past{r.Generation, time.Now().Add(h.longest(machine))}
	}
}

// Served notes the limit under which an earlier daemon was in a pair: its primary may have
// it still.
func (h *Heirs) Served(machine string, limit time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.earlier[machine] = limit
}

// Limit of a machine's pairs, this daemon's and earlier ones'.
func (h *Heirs) Limit(machine string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.longest(machine)
}

func (h *Heirs) longest(machine string) time.Duration { return max(h.limit, h.earlier[machine]) }

// Started notes that a machine has no past, by its record.
func (h *Heirs) Started(r arbiter.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known[r.Machine] = past{generation: r.Generation}
}

// left is for how long an old primary of the machine may still be heard.
func (h *Heirs) left(machine string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, known := h.known[machine]
	if !known {
		p.until = h.began.Add(h.longest(machine))
	}
	return max(0, time.Until(p.until))
}

// Outlast the old primary's output, or the context.
func (h *Heirs) Outlast(ctx context.Context, machine string) {
	left := h.left(machine)
	if left == 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
