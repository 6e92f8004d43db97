package daemon

import (
	"slices"
	"sync"
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
