package sim

import (
	"errors"
	"sync"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
)

// card is the guest's network card on a host: its tap, with the daemons that
// have it open.
type card struct {
	mu    sync.Mutex
	wires []*wire // of the tap
	queue [][]byte
	taken uint64
	qemu  *qemu // that reads the tap; nil while there is none
}

// uplink of a host.
type uplink struct {
	mu    sync.Mutex
	wires []*wire
	room  int // how many frames it takes; negative: any number
}

// takes says whether the uplink takes one more frame.
func (u *uplink) takes() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.room == 0 {
		return false
	}
	u.room = max(u.room-1, -1)
	return true
}

func (u *uplink) has(room int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.room = room
}

// wire is one interface as a gate has it open.
type wire struct {
	i      *incarnation
	card   *card // of a tap
	up     *uplink
	mu     sync.Mutex
	queue  [][]byte
	closed bool
	quit   chan struct{}
	ready  chan struct{}
}

// wires are a host's interfaces as one daemon sees them.
type wires struct{ *incarnation }

func (s wires) Open(string) (gate.Wire, error) {
	w, err := s.newWire()
	if err != nil {
		return nil, err
	}
	w.up = s.host.up
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	w.up.wires = append(w.up.wires, w)
	return w, nil
}

func (s wires) OpenTap(string) (gate.Tap, error) {
	w, err := s.newWire()
	if err != nil {
		return nil, err
	}
	w.card = s.host.card
	w.card.mu.Lock()
	defer w.card.mu.Unlock()
	w.card.wires = append(w.card.wires, w)
	w.card.queue = nil
	return w, nil
}

func (s wires) newWire() (*wire, error) {
	if s.isDead() {
		return nil, errors.New("no such interface")
	}
	return &wire{i: s.incarnation, quit: make(chan struct{}), ready: make(chan struct{}, 1)}, nil
}

func (wires) Close() {}

func without(all []*wire, w *wire) (rest []*wire) {
	for _, x := range all {
		if x != w {
			rest = append(rest, x)
		}
	}
	return rest
}

func (w *wire) Await(drain func(fd int) error) error {
	for {
		select {
		case <-w.ready:
			if err := drain(0); err != nil {
				return err
			}
		case <-w.quit:
			return nil
		}
	}
}

func (w *wire) Now(drain func(fd int)) {
	if !w.isClosed() {
		drain(0)
	}
}

// Overrun: there is room for all.
func (w *wire) Overrun() uint64 { return 0 }

func (w *wire) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

func (w *wire) arrive(frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.queue = append(w.queue, frame)
	}
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *wire) Receive(_ int, b []byte) (n int, again bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return 0, true, nil
	}
	n = copy(b, w.queue[0])
	w.queue = w.queue[1:]
	return n, false, nil
}

// Offer takes what the uplink has room for, and shows it to the oracle.
func (w *wire) Offer(frames [][]byte) (done, lost int, full bool, err error) {
	for _, f := range frames {
		switch {
		case w.isClosed() || w.i.isDead():
			return len(frames), len(frames) - done, false, errClosed
		case !w.up.takes():
			return done, 0, true, nil
		}
		w.i.host.w.oracle.leaves(w.i, f)
		done++
	}
	return done, 0, false, nil
}

var errClosed = errors.New("the interface is closed")

// HandIn gives the guest what its tap has room for.
func (w *wire) HandIn(frames [][]byte) (n int, err error) {
	for _, f := range frames {
		if w.isClosed() || w.i.isDead() {
			return n, errClosed
		}
		if !w.card.deliver(append([]byte(nil), f...)) {
			return n, gate.ErrFull
		}
		n++
	}
	return n, nil
}

func (w *wire) Empty() error {
	w.card.mu.Lock()
	defer w.card.mu.Unlock()
	w.card.queue = nil
	return nil
}

func (w *wire) Taken() (uint64, error) {
	w.card.mu.Lock()
	defer w.card.mu.Unlock()
	return w.card.taken, nil
}

func (w *wire) Close() {
	w.mu.Lock()
	already := w.closed
	w.closed = true
	w.mu.Unlock()
	if already {
		return
	}
	close(w.quit)
	if w.card != nil {
		w.card.mu.Lock()
		w.card.wires = without(w.card.wires, w)
		w.card.mu.Unlock()
		return
	}
	w.up.mu.Lock()
	w.up.wires = without(w.up.wires, w)
	w.up.mu.Unlock()
}

// emit is the guest's: whoever has the tap open gets the frame.
func (c *card) emit(frame []byte) {
	c.mu.Lock()
	all := c.wires
	c.mu.Unlock()
	for _, w := range all {
		w.arrive(frame)
	}
}

// tapRoom is how many frames a tap holds.
const tapRoom = 16

// deliver hands a frame to the tap, where it waits for a guest that runs.
func (c *card) deliver(frame []byte) bool {
	c.mu.Lock()
	if len(c.queue) == tapRoom {
		c.mu.Unlock()
		return false
	}
	c.queue = append(c.queue, frame)
	q := c.qemu
	c.mu.Unlock()
	if q != nil {
		q.readTap()
	}
	return true
}

// next is the guest's.
func (c *card) next() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil, false
	}
	f := c.queue[0]
	c.queue = c.queue[1:]
	c.taken++
	return f, true
}

// attach a QEMU to the tap; what waited is lost.
func (c *card) attach(q *qemu) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.qemu, c.queue = q, nil
}

func (c *card) detach(q *qemu) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.qemu == q {
		c.qemu, c.queue = nil, nil
	}
}

// arrive is the network's.
func (u *uplink) arrive(frame []byte) {
	u.mu.Lock()
	all := u.wires
	u.mu.Unlock()
	for _, w := range all {
		w.arrive(append([]byte(nil), frame...))
	}
}
