package daemon

import (
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

const (
	rememberedEvents = 1024
	subscriberQueue  = 4096
)

// hub passes events to whoever listens. A listener that does not read loses
// its oldest events; it never holds anybody up.
type hub struct {
	mu          sync.Mutex
	host        string
	past        []*control.Event
	subscribers map[chan *control.Event]struct{}
}

func newHub(host string) *hub {
	return &hub{host: host, subscribers: map[chan *control.Event]struct{}{}}
}

func (h *hub) publish(e *control.Event) {
	e.Host = h.host
	if e.TimeUnixNanos == 0 {
		e.TimeUnixNanos = time.Now().UnixNano()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.Checkpoint == nil {
		h.remember(e)
	}
	for c := range h.subscribers {
		offer(c, e)
	}
}

func (h *hub) remember(e *control.Event) {
	if len(h.past) == rememberedEvents {
		h.past = append(h.past[:0], h.past[1:]...)
	}
	h.past = append(h.past, e)
}

func offer(c chan *control.Event, e *control.Event) {
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

// subscribe returns what is remembered, what comes, and the end of it.
func (h *hub) subscribe() (past []*control.Event, next <-chan *control.Event, cancel func()) {
	c := make(chan *control.Event, subscriberQueue)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[c] = struct{}{}
	return append(past, h.past...), c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subscribers, c)
	}
}
