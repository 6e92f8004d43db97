package guestagent

import (
	"sync"
	"sync/atomic"
)

// A Gate stands between an application's queues and their devices.
//
// Each queue has a [Slot] that only its owner writes. To take packets in, the
// owner says "busy" in its slot, then looks whether the gate is closed; the
// agent closes the gate, then looks who is busy. Atomics in Go are
// sequentially consistent, so one of the two sees the other. A queue that is
// not busy needs no look: it cannot pass the gate any more. So queues that
// nobody polls do not matter.
//
// The methods of a Gate are safe for concurrent use.
//
// The price is two stores to a cache line of the queue's own and loads of a
// word that hardly ever changes, per burst; nothing per packet.
type Gate struct {
	closed atomic.Uint64 // 0: open; else the running number of the closing
	_      [56]byte
	nudge  chan struct{} // capacity 1: something changed while closed

	mu       sync.Mutex
	closings uint64
	opened   chan struct{} // closed when the gate opens; nil while it is open
	slots    []*Slot
}

// NewGate returns an open gate.
func NewGate() *Gate { return &Gate{nudge: make(chan struct{}, 1)} }

// A Slot is a queue's place at the gate. It belongs to one goroutine at a time: none of
// its methods may run at once with another one of the same slot.
type Slot struct {
	_      [64]byte
	taken  atomic.Uint64 // packets handed out, times two, plus one while busy
	back   atomic.Uint64 // packets sent or freed through this slot
	gate   *Gate
	nTaken uint64 // the owner's copies
	nBack  uint64
	_      [64]byte
}

// NewSlot adds a queue, for as long as there is the gate.
func (g *Gate) NewSlot() *Slot {
	s := &Slot{gate: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	// A new slice: readers use theirs without the lock.
	g.slots = append(append([]*Slot(nil), g.slots...), s)
	return s
}

// Enter asks to take packets in, and does not wait. If it says yes, Leave must follow
// soon: until then there is no still point.
func (s *Slot) Enter() bool {
	if s.gate.closed.Load() != 0 {
		return false // without even looking busy
	}
	s.taken.Store(s.nTaken<<1 | 1)
	if s.gate.closed.Load() != 0 {
		s.Leave(0)
		return false
	}
	return true
}

// Leave says that n packets were handed out.
func (s *Slot) Leave(n int) {
	s.nTaken += uint64(n)
	s.taken.Store(s.nTaken << 1)
	s.tell()
}

// Derived counts n packets that the application makes out of one that it
// holds. Held packets may have children while the gate is closed: the still
// point waits for the parent anyhow.
func (s *Slot) Derived(n int) {
	s.nTaken += uint64(n)
	s.taken.Store(s.nTaken << 1)
}

// Returned says that n packets were sent or freed, whichever slot they came in by. In all,
// no more may be returned than were handed out.
func (s *Slot) Returned(n int) {
	s.nBack += uint64(n)
	s.back.Store(s.nBack)
	s.tell()
}

// tell wakes the agent if it waits for a still point.
func (s *Slot) tell() {
	if s.gate.closed.Load() != 0 {
		select {
		case s.gate.nudge <- struct{}{}:
		default:
		}
	}
}

// Close closes the gate; it may be closed already.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		return
	}
	g.opened = make(chan struct{})
	g.closings++
	g.closed.Store(g.closings)
}

// Open opens the gate and wakes whoever waits at it.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		return
	}
	g.closed.Store(0)
	close(g.opened)
	g.opened = nil
}

// Closed says whether the gate is closed.
func (g *Gate) Closed() bool { return g.closed.Load() != 0 }

// Changed delivers something when Count may have become less while the gate is closed. Who
// takes it takes it from others: behind an agent, from the agent.
func (g *Gate) Changed() <-chan struct{} { return g.nudge }

// Opened returns a channel that is closed when the gate opens, or is if it is open.
func (g *Gate) Opened() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		open := make(chan struct{})
		close(open)
		return open
	}
	return g.opened
}

// A Count says how far from a still point the application is.
type Count struct {
	Held uint64 // packets in the application
	Busy uint32 // queues inside a receive call
}

// Count looks at every queue. With the gate closed, Count{} is a still point,
// and it stays one until the gate opens: nothing can enter, and what is not
// held has no children.
//
// Busy comes first: from then on only children of held packets add to taken.
// Then back, then taken: both only grow, and at no time is more back than was
// taken, so equal sums mean that between the two readings nothing was held.
func (g *Gate) Count() Count {
	g.mu.Lock()
	slots := g.slots
	g.mu.Unlock()
	var c Count
	var back, taken uint64
	for _, s := range slots {
		c.Busy += uint32(s.taken.Load() & 1)
	}
	for _, s := range slots {
		back += s.back.Load()
	}
	for _, s := range slots {
		taken += s.taken.Load() >> 1
	}
	c.Held = taken - back
	return c
}
