package policy

import (
	"slices"
	"sync"
)

// Slots keep the periodic checkpoints of one host's machines apart: each machine that is
// protected from here has one. The lowest free one is taken, so that those in use are the
// first ones, which Phase spreads. The zero value has none taken; its methods may be called
// concurrently.
type Slots struct {
	mu    sync.Mutex
	taken []bool
}

// Take the lowest free slot.
func (s *Slots) Take() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := slices.Index(s.taken, false)
	if free < 0 {
		free = len(s.taken)
		s.taken = append(s.taken, false)
	}
	s.taken[free] = true
	return free
}

// Leave a slot that was taken.
func (s *Slots) Leave(slot int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[slot] = false
}
