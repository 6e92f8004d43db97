package daemon

import (
	"slices"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// places keep the periodic checkpoints of this host's machines apart: each
// machine that is protected from here has one. The lowest free one is taken, so
// that those in use are the first ones, which policy.Phase spreads.
type places struct {
	mu    sync.Mutex
	taken []bool
}

func (p *places) take() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := slices.Index(p.taken, false)
	if free < 0 {
		free = len(p.taken)
		p.taken = append(p.taken, false)
	}
	p.taken[free] = true
	return free
}

func (p *places) leave(place int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken[place] = false
}

// policyOf a machine in a place. Turns are counted from start, which all
// machines of a host have in common.
func policyOf(p spec.Protection, place int, start time.Time) policy.Policy {
	interval := time.Duration(p.Interval)
	late := time.Duration(policy.Phase(place) * float64(interval))
	return policy.Policy{Periodic: p.Checkpoint == spec.Periodic, Interval: interval, Origin: start.Add(late),
		MinEpoch: time.Duration(p.MinEpoch), MaxEpoch: time.Duration(p.MaxEpoch), Overhead: float64(p.Overhead)}
}
