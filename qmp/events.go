package qmp

import (
	"sync"
	"sync/atomic"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// queueLength is how many events a Subscription holds for a slow reader.
const queueLength = 256

// Event of QEMU.
type Event struct {
	Name string
	// QEMUTime is QEMU's own wall clock, to the microsecond: good for a
	// duration between two events, never for order. Zero where unknown.
	QEMUTime time.Time
	// Received is when it arrived here (wall and monotonic clock).
	Received time.Time
	// Data is shared by all subscribers: only read it.
	Data map[string]any
}

func newEvent(e goqemu.Event) Event {
	event := Event{Name: e.Event, Received: time.Now(), Data: e.Data}
	if t := e.Timestamp; t.Seconds > 0 {
		event.QEMUTime = time.Unix(t.Seconds, t.Microseconds*1000)
	}
	return event
}

// Subscription is one subscriber's queue of events. When its reader is slow
// the oldest are dropped and counted. Its methods may be called concurrently.
type Subscription struct {
	hub     *hub
	queue   chan Event
	done    chan struct{}
	err     error // guarded by the hub's lock
	dropped atomic.Uint64
}

// C is where events arrive. It is closed when the subscription ends, after
// the events that came before.
func (s *Subscription) C() <-chan Event { return s.queue }

// Done is closed when the monitor has ended, or after Close.
func (s *Subscription) Done() <-chan struct{} { return s.done }

// Err says why the subscription ended: ErrEnded with a reason, ErrClosed, or
// nil while it lives and after its own Close.
func (s *Subscription) Err() error {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.err
}

// Dropped is how many events a slow reader has missed.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Drain forgets the events that have arrived and says how many there were.
func (s *Subscription) Drain() int {
	for n := 0; ; n++ {
		select {
		case _, ok := <-s.queue:
			if !ok {
				return n
			}
		default:
			return n
		}
	}
}

// Close ends the subscription. It may be called twice.
func (s *Subscription) Close() { s.hub.unsubscribe(s) }

// offer never blocks; the hub's lock makes it the only sender.
func (s *Subscription) offer(e Event) {
	for {
		select {
		case s.queue <- e:
			return
		default:
		}
		select {
		case <-s.queue:
			s.dropped.Add(1)
		default:
		}
	}
}

func (s *Subscription) finish(err error) {
	s.err = err
	close(s.done)
	close(s.queue)
}

// hub hands each event to all subscribers.
type hub struct {
	mu          sync.Mutex
	subscribers map[*Subscription]struct{}
	done        chan struct{}
	err         error // written before done is closed
}

func newHub() *hub {
	return &hub{subscribers: make(map[*Subscription]struct{}), done: make(chan struct{})}
}

func (h *hub) subscribe() *Subscription {
	s := &Subscription{hub: h, queue: make(chan Event, queueLength), done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		s.finish(h.err)
		return s
	}
	h.subscribers[s] = struct{}{}
	return s
}

func (h *hub) unsubscribe(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.subscribers[s]; !ok {
		return
	}
	delete(h.subscribers, s)
	s.finish(nil)
}

func (h *hub) publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subscribers {
		s.offer(e)
	}
}

// reason is why the monitor ended. It takes the lock, so that it agrees with
// what the subscriptions say.
func (h *hub) reason() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// end tells everybody why; the first reason stands.
func (h *hub) end(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return
	}
	h.err = why
	for s := range h.subscribers {
		s.finish(why)
	}
	clear(h.subscribers)
	close(h.done)
}
