package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
)

// An old primary lets committed output leave for detection.limit after it has sent the
// epoch, although the machine has been taken over meanwhile (release.go): the heir
// remembers it. A machine that was stopped, or started anew, does not. So the heir waits
// out that time before it lets go of the machine's past.

// heirs tells until when the old primaries of machines may be heard.
type heirs struct {
	limit time.Duration
	mu    sync.Mutex
	// until is zero for a machine that was started here.
	until map[string]time.Time
	// others are machines that this daemon has neither started nor taken over: an
	// earlier one may have.
	others time.Time
}

func newHeirs(limit time.Duration) *heirs {
	return &heirs{limit: limit, until: map[string]time.Time{}, others: time.Now().Add(limit)}
}

// won notes what has become of a machine here by a claim that was granted.
func (h *heirs) won(machine string, kind pair.Kind) {
	if kind != pair.ClaimTakeover && kind != pair.ClaimHandover {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until[machine] = time.Now().Add(h.limit)
}

// started notes that a machine has no past.
func (h *heirs) started(machine string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until[machine] = time.Time{}
}

// left is for how long an old primary of the machine may still be heard.
func (h *heirs) left(machine string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	until, known := h.until[machine]
	if !known {
		until = h.others
	}
	return max(0, time.Until(until))
}

// outlast the old primary's output, or the context.
func (h *heirs) outlast(ctx context.Context, machine string) {
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
