package lab

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// maxEvents is how many events of a host are remembered; then the older half
// is forgotten.
const maxEvents = 1 << 17

// Event of a daemon, with the time at which it came here.
type Event struct {
	*control.Event
	Received time.Time
}

// eventLog collects the events of all runs of a host's daemon. Safe for
// concurrent use; the zero value is empty.
type eventLog struct {
	mu     sync.Mutex
	events []Event
	first  int           // number of events[0], counted from the start
	wake   chan struct{} // closed at the next event; nil while nobody waits
}

// collect until the context or the daemon ends.
func (l *eventLog) collect(ctx context.Context, client control.HostdClient, checkpoints bool) {
	stream, err := client.Events(ctx, &control.EventsRequest{Checkpoints: checkpoints})
	for err == nil {
		var e *control.Event
		if e, err = stream.Recv(); err == nil {
			l.add(Event{e, time.Now()})
		}
	}
}

func (l *eventLog) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == maxEvents {
		l.events = append([]Event(nil), l.events[maxEvents/2:]...)
		l.first += maxEvents / 2
	}
	l.events = append(l.events, e)
	if l.wake != nil {
		close(l.wake)
		l.wake = nil
	}
}

// changed returns a channel that is closed at the next event.
func (l *eventLog) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changedLocked()
}

func (l *eventLog) changedLocked() <-chan struct{} {
	if l.wake == nil {
		l.wake = make(chan struct{})
	}
	return l.wake
}

// since returns the events from a number on, the number after the last, and a
// channel that is closed when there are more.
func (l *eventLog) since(number int) ([]Event, int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := min(max(number-l.first, 0), len(l.events))
	return append([]Event(nil), l.events[from:]...), l.first + len(l.events), l.changedLocked()
}

// Events returns everything collected from the daemon so far, checkpoints
// included, over all its runs.
func (h *Host) Events() []Event {
	events, _, _ := h.events.since(0)
	return events
}

// EventMark is the present end of the events, to wait for later ones only.
func (h *Host) EventMark() int {
	_, end, _ := h.events.since(0)
	return end
}

// WaitEvent returns the first wanted event from a mark on; mark 0 includes all
// that is remembered.
func (h *Host) WaitEvent(ctx context.Context, mark int, wanted func(Event) bool) (Event, error) {
	for {
		events, end, more := h.events.since(mark)
		for _, e := range events {
			if wanted(e) {
				return e, nil
			}
		}
		mark = end
		select {
		case <-more:
		case <-ctx.Done():
			return Event{}, h.explain(fmt.Errorf("wait for an event of host %s: %w", h.Name, ctx.Err()))
		}
	}
}

// Kind wants events of a machine by their kind.
func Kind(machine, kind string) func(Event) bool {
	return func(e Event) bool { return e.Machine == machine && e.Kind == kind }
}
