package daemon_test

import (
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// TestWhatIsShipped counts the bytes of a guest that changes one word of the same
// page in each epoch.
func TestWhatIsShipped(t *testing.T) {
	const (
		device = 64
		dirty  = replica.PageSize + device
		header = 32
		head   = 13 // of a packed batch
		page   = 8  // its descriptor
		whole  = header + head + page + replica.PageSize + header + device
		change = 8 + 2 + 8 // a page's descriptor, head of a run, a word
		kept   = 2*(header+head) + change
		first  = kept + 2*page + dirty
	)
	t.Run("changes", func(t *testing.T) {
		a, _ := pairOfHosts(t)
		a.ships(dirty, kept, first)
	})
	t.Run("pages", func(t *testing.T) {
		a, _ := pairOfHosts(t)
		a.restart(func() { a.config.Limits.DeltaCache, a.config.Link.Compress = 0, config.CompressOff })
		a.ships(dirty, whole, whole)
	})
}

// ships expects so many bytes for each checkpoint, and at most so many for the
// first.
func (h *host) ships(dirty, each, first uint64) {
	h.t.Helper()
	h.mustStart("m", "")
	if err := h.protect("m", "b"); err != nil {
		h.t.Fatal(err)
	}
	h.await("checkpoints", func() bool { return h.machine("m").Checkpoints > 5 })
	m := h.machine("m")
	if m.DirtyBytes != m.Checkpoints*dirty {
		h.t.Errorf("%d bytes dirty in %d checkpoints", m.DirtyBytes, m.Checkpoints)
	}
	others := (m.Checkpoints - 1) * each
	if m.BytesShipped <= others || m.BytesShipped > others+first {
		h.t.Errorf("%d bytes shipped in %d checkpoints", m.BytesShipped, m.Checkpoints)
	}
	h.mustUnprotect("m")
}
