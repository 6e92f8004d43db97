package quiesce

import (
	"io"
	"time"

	"github.com/hashicorp/go-hclog"
)

// An honest agent says some tens of kilobytes a second at the most.
const (
	throttleRate  = 1 << 20 // bytes per second
	throttleBurst = 256 << 10
)

// throttle slows down a guest that floods its channel: what it costs the host
// is bounded, and QEMU holds the rest back.
type throttle struct {
	r      io.Reader
	done   <-chan struct{}
	log    hclog.Logger
	used   float64 // bytes, leaking away at throttleRate
	last   time.Time
	warned bool
}

func (t *throttle) Read(b []byte) (int, error) {
	if wait := t.wait(time.Now()); wait > 0 {
		if !t.warned {
			t.warned = true
			t.log.Warn("the guest floods its agent channel", "limit", throttleRate)
		}
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-t.done:
		}
	}
	n, err := t.r.Read(b)
	t.used += float64(max(n, 0))
	return n, err
}

// wait is how long not to read. After a wait there is room for a good deal, so
// that a flood means few wake-ups.
func (t *throttle) wait(now time.Time) time.Duration {
	t.used = max(0, t.used-now.Sub(t.last).Seconds()*throttleRate)
	t.last = now
	if t.used < throttleBurst {
		return 0
	}
	return time.Duration((t.used - throttleBurst/2) / throttleRate * float64(time.Second))
}
