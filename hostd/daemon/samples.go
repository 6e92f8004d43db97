package daemon

import (
	"slices"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

const sampleWindow = 1024

// samples keeps the latest durations of one step of a checkpoint.
type samples struct {
	ring []time.Duration
	next int
}

func (s *samples) add(d time.Duration) {
	if len(s.ring) < sampleWindow {
		s.ring = append(s.ring, d)
		return
	}
	s.ring[s.next] = d
	s.next = (s.next + 1) % sampleWindow
}

// quantiles in microseconds, of the window.
func (s *samples) quantiles() *control.Quantiles {
	if len(s.ring) == 0 {
		return &control.Quantiles{}
	}
	sorted := slices.Sorted(slices.Values(s.ring))
	at := func(q float64) uint64 {
		return uint64(sorted[int(q*float64(len(sorted)-1))].Microseconds())
	}
	return &control.Quantiles{P50: at(0.50), P95: at(0.95), Max: at(1)}
}
