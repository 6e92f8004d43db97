package daemon

import "sync"

// tasks are goroutines that somebody waits for. Unlike those of a sync.WaitGroup
// they may be begun while they are waited for, and none begins after its end. The
// zero value is ready. Its methods may be called concurrently.
type tasks struct {
	mu     sync.Mutex
	n      int
	closed bool
	none   chan struct{} // closed when the last one has ended; nil while nobody waits
}

// Go runs f, unless the end has come: then it reports false.
func (t *tasks) Go(f func()) bool {
	if !t.begin() {
		return false
	}
	go func() {
		defer t.done()
		f()
	}()
	return true
}

func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.n++
	return true
}

func (t *tasks) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n--; t.n == 0 && t.none != nil {
		t.closed = true
		close(t.none)
	}
}

// Wait until all have ended, those that they begin among them. None begins
// afterwards.
func (t *tasks) Wait() {
	t.mu.Lock()
	if t.none == nil {
		t.none = make(chan struct{})
		if t.closed = t.n == 0; t.closed {
			close(t.none)
		}
	}
	none := t.none
	t.mu.Unlock()
	<-none
}
