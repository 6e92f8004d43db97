package status

import (
	"slices"
	"time"
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

// Quantiles of the latest checkpoints; 0 before the first.
type Quantiles struct{ P50, P95, Max time.Duration }

// quantiles of the window.
func (s *samples) quantiles() Quantiles {
	if len(s.ring) == 0 {
		return Quantiles{}
	}
	sorted := slices.Sorted(slices.Values(s.ring))
	at := func(q float64) time.Duration { return sorted[int(q*float64(len(sorted)-1))] }
	return Quantiles{P50: at(0.50), P95: at(0.95), Max: at(1)}
}
