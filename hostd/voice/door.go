package voice

import (
	"sync"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
)

// Door is the only way to a machine's output. It begins closed. Its methods may be
// called concurrently.
type Door struct {
	host string

	mu         sync.RWMutex // held for reading by those who speak
	generation uint64
	granted    bool
	stopped    bool
}

// NewDoor is a host's door to a machine's output.
func NewDoor(host string) *Door { return &Door{host: host} }

// Stands tells the door which record stands. One that names this host opens it, any
// other closes it; an older one than it knows changes nothing. A door that a stop
// has closed stays so.
func (d *Door) Stands(r arbiter.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Generation >= d.generation {
		d.generation, d.granted = r.Generation, r.Voice == d.host
	}
}

// Speak calls f, which lets output leave, unless the door is closed. It is not
// closed before f returns.
func (d *Door) Speak(f func()) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if !d.granted || d.stopped {
		return false
	}
	f()
	return true
}

// Stop closes the door, whoever has the voice, before anybody is asked to take it
// away. Nobody speaks once it has returned. Only Resume undoes it.
func (d *Door) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
}

// Resume undoes a stop of which it is proven that the arbiter did not grant it.
func (d *Door) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = false
}
