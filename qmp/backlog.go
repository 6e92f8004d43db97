package qmp

import (
	"sync"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// maxBacklog is how many events may wait; beyond it the oldest go, as they do for a
// slow subscriber.
const maxBacklog = 1 << 14

// backlog keeps events for who does not take them yet, so that the connection is
// read whatever becomes of them: a reply may stand behind them.
type backlog struct {
	mu     sync.Mutex
	events []goqemu.Event
	ended  bool
	more   chan struct{} // holds one
}

func newBacklog(first []goqemu.Event) *backlog {
	b := &backlog{events: first, more: make(chan struct{}, 1)}
	b.stir()
	return b
}

func (b *backlog) stir() {
	select {
	case b.more <- struct{}{}:
	default:
	}
}

func (b *backlog) add(e goqemu.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.events) == maxBacklog {
		b.events = append(b.events[:0], b.events[1:]...)
	}
	b.events = append(b.events, e)
	b.stir()
}

// end says that no other will come.
func (b *backlog) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.stir()
}

func (b *backlog) take() (events []goqemu.Event, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	events, b.events = b.events, nil
	return events, b.ended
}

// handTo hands the events on, in order, until none will come any more, or quit.
func (b *backlog) handTo(to chan<- goqemu.Event, quit <-chan struct{}) {
	for {
		select {
		case <-b.more:
		case <-quit:
			return
		}
		events, ended := b.take()
		for _, e := range events {
			select {
			case to <- e:
			case <-quit:
				return
			}
		}
		if ended {
			return
		}
	}
}
