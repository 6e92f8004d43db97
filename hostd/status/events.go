package status

import (
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
)

// Kind of an event; docs/cli.md says what each means.
type Kind string

// The kinds, besides those of the role machine's reports.
const (
	Adopted        Kind = "adopted"
	Arbiter        Kind = "arbiter"
	Committed      Kind = "checkpoint"
	Error          Kind = "error"
	Fenced         Kind = "fenced"
	MachineLost    Kind = "machine-lost"
	QEMUEnded      Kind = "qemu-ended"
	QEMUHangs      Kind = "qemu-hangs"
	ReplicaDamaged Kind = "replica-damaged"
	Reprotecting   Kind = "reprotecting"
	Running        Kind = "running"
	Scrubbed       Kind = "scrubbed"
	Started        Kind = "started"
	Stopped        Kind = "stopped"
	TapBack        Kind = "tap-back"
	TapLost        Kind = "tap-lost"
	Torn           Kind = "torn"
	UplinkBack     Kind = "uplink-back"
	UplinkLost     Kind = "uplink-lost"
)

// Event is what has happened to a machine, or to the host where Machine is empty.
type Event struct {
	Time       time.Time // set when it is published
	Machine    string
	Kind       Kind
	Message    string
	Role       pair.Role
	Generation uint64
	Epoch      uint64
	Checkpoint *Checkpoint // of Committed
}

const (
	rememberedEvents = 1024
	subscriberQueue  = 4096
)

// Events passes events to whoever listens. A listener that does not read loses its oldest
// ones; it never holds anybody up. The zero value is ready. Its methods may be called
// concurrently.
type Events struct {
	mu          sync.Mutex
	past        []*Event
	subscribers map[chan *Event]struct{}
}

// Publish an event. Checkpoints are not remembered.
func (s *Events) Publish(event Event) {
	e := &event
	e.Time = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Checkpoint == nil {
		s.remember(e)
	}
	for c := range s.subscribers {
		offer(c, e)
	}
}

func (s *Events) remember(e *Event) {
	if len(s.past) == rememberedEvents {
		s.past = append(s.past[:0], s.past[1:]...)
	}
	s.past = append(s.past, e)
}

func offer(c chan *Event, e *Event) {
	for {
		select {
		case c <- e:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}

// Subscribe returns what is remembered, what comes, and the end of it. All who listen share
// the events: nobody changes them.
func (s *Events) Subscribe() (past []*Event, next <-chan *Event, cancel func()) {
	c := make(chan *Event, subscriberQueue)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subscribers == nil {
		s.subscribers = map[chan *Event]struct{}{}
	}
	s.subscribers[c] = struct{}{}
	return append(past, s.past...), c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subscribers, c)
	}
}
