package voice

import (
	"sync"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
)

// Door is the only way to a machine's output, of type T. It begins closed. Its
// methods may be called concurrently.
type Door[T any] struct {
	host string
	out  T

	mu         sync.RWMutex // held for reading by those who speak
	generation uint64
	granted    bool
	stopped    bool
}

// NewDoor is a host's door to a machine's output.
func NewDoor[T any](host string, out T) *Door[T] { return &Door[T]{host: host, out: out} }

// Stands tells the door which record stands. One that names this host opens it, any
// other closes it; an older one than it knows changes nothing. A door that a stop
// has closed stays so.
func (d *Door[T]) Stands(r arbiter.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Generation >= d.generation {
		d.generation, d.granted = r.Generation, r.Voice == d.host
	}
}

// Speak calls f with the output, unless the door is closed. It is not closed before
// f returns.
func (d *Door[T]) Speak(f func(T)) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if !d.granted || d.stopped {
		return false
	}
	f(d.out)
	return true
}

// Stop closes the door, whoever has the voice, before anybody is asked to take it
// away. Nobody speaks once it has returned. Only Resume undoes it.
func (d *Door[T]) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
}

// Resume undoes a stop of which it is proven that the arbiter did not grant it.
func (d *Door[T]) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = false
}

// Stopped reports that a stop has closed the door.
func (d *Door[T]) Stopped() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.stopped
}
