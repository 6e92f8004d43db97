package gate

import (
	"errors"
	"time"
)

// drainAtOnce is how many frames are taken from a tap before others may have the
// output's lock: a guest that never stops sending stops nobody.
const drainAtOnce = 64

// drainTap takes every frame that the guest has sent on port i.
func (g *Gate) drainTap(i, fd int) error {
	for {
		g.out.Lock()
		again, err := g.drainTapLocked(i, fd, drainAtOnce)
		g.out.Unlock()
		if again || err != nil {
			return err
		}
	}
}

// drainTapLocked takes some frames at most and reports whether that was all.
func (g *Gate) drainTapLocked(i, fd, most int) (all bool, err error) {
	p := g.ports[i]
	for range most {
		n, again, err := p.tap.Receive(fd, p.fromTap)
		if errors.Is(err, ErrUncarried) {
			g.uncarriedFrame(p, p.Tap, 0, err)
			continue
		}
		if again || err != nil {
			return again, err
		}
		if n < vnetHeader+ethernetHead {
			continue
		}
		p.learned.Snoop(p.fromTap[vnetHeader:n])
		g.leave(p, p.fromTap[:n])
	}
	return false, nil
}

func (g *Gate) emit(i int, frame []byte) {
	switch {
	case g.out.mode == passing:
		g.transmit(i, time.Time{}, &g.stats.released, append(g.out.batch[:0], frame)...)
	case g.out.mode == committing && g.leavesAtOnce(frame):
		g.transmit(i, g.out.until, &g.stats.released, append(g.out.batch[:0], frame)...)
	case g.out.mode == holding, g.out.mode == committing:
		g.store(i, frame)
	default:
		g.stats.outputDropped.Add(1)
	}
}

// leavesAtOnce: a frame overtakes none that is held.
func (g *Gate) leavesAtOnce(frame []byte) bool {
	return g.out.atOnce != nil && g.out.bytes == 0 && time.Now().Before(g.out.until) && g.out.atOnce(frame[vnetHeader:])
}

// PassUntil lets frames leave at once, where the policy is for it, until a time of
// day: that of a caller who may have been stopped since is over.
func (g *Gate) PassUntil(until time.Time) {
	g.out.Lock()
	defer g.out.Unlock()
	g.out.until = until
}

func (g *Gate) store(i int, frame []byte) {
	if g.out.bytes+len(frame) > g.limit.output {
		g.stats.outputDropped.Add(1)
		return
	}
	g.out.open.held.Push(frame, i)
	g.out.bytes += len(frame)
	if g.out.open.Len() == 1 {
		g.signalHeld()
	}
}

func (g *Gate) signalHeld() {
	select {
	case g.held <- struct{}{}:
	default:
	}
}

// Hold keeps every frame from now on until its epoch is released, whatever the
// policy for output is. What may leave
// and waits for its uplink stays as well, until something is released or passes.
func (g *Gate) Hold() {
	g.out.Lock()
	defer g.out.Unlock()
	if !g.out.ended {
		g.out.mode, g.out.withheld = holding, true
	}
}

// Unhold undoes Hold for a guest whose epochs are committed: the policy for output counts
// again.
func (g *Gate) Unhold() {
	g.out.Lock()
	defer g.out.Unlock()
	if g.out.mode == holding {
		g.out.mode, g.out.withheld = committing, false
	}
}

// Pass releases all that is held, in order, and lets output leave at once.
func (g *Gate) Pass() {
	g.out.releasing.Lock()
	defer g.out.releasing.Unlock()
	for g.passSome() {
	}
}

// passSome lets a batch of what is held leave, until nothing is left and all
// passes.
func (g *Gate) passSome() (more bool) {
	g.out.Lock()
	defer g.out.Unlock()
	switch {
	case g.out.ended:
		return false
	case len(g.out.cut) > 0:
		if o := g.out.cut[0]; o.sent < o.Len() {
			g.sendNext(o, time.Time{})
		} else {
			g.dropOldest()
		}
		return true
	case g.out.open.sent < g.out.open.Len():
		g.sendNext(g.out.open, time.Time{})
		return true
	}
	g.out.bytes -= g.out.open.Bytes()
	g.out.open.reset()
	g.out.mode, g.out.withheld = passing, false
	return false
}

// Silence drops what is held, what waits for an uplink, and everything after it,
// for ever. Once it has returned nothing leaves, whatever is called.
func (g *Gate) Silence() {
	g.out.Lock()
	defer g.out.Unlock()
	g.out.mode, g.out.ended = silent, true
	g.forgetWaiting()
	g.out.cut, g.out.free, g.out.bytes = nil, nil, 0
	g.out.open = &Output{}
}

// Cut closes the open epoch under the given number. The guest must be stopped:
// everything readable on its taps is the epoch's.
func (g *Gate) Cut(epoch uint64) *Output {
	g.out.Lock()
	defer g.out.Unlock()
	for _, p := range g.ports {
		p.tap.Now(p.drain)
	}
	if g.out.mode == passing { // the first cut of a protection begins to hold
		g.out.mode = committing
	}
	done := g.out.open
	done.Epoch = epoch
	g.out.cut = append(g.out.cut, done)
	g.out.open = g.fresh()
	return done
}

func (g *Gate) fresh() *Output {
	if n := len(g.out.free); n > 0 {
		o := g.out.free[n-1]
		g.out.free = g.out.free[:n-1]
		return o
	}
	return &Output{}
}

// Release lets the output of every closed epoch up to the given one leave, in
// order. The epoch must be committed. What an uplink does not take at once waits
// for it and leaves a little later, or is dropped and counted, as in a router's
// queue; Release does not wait.
//
// Nothing leaves after a time of day that the caller sets, which is looked at
// before each batch of frames: a process that was stopped in the midst of it must
// not go on as if nothing had happened. Release then reports that there is more,
// and may be called again; what waited for an uplink by then is dropped. After
// Silence nothing is released, and it reports so.
func (g *Gate) Release(epoch uint64, until time.Time) (all bool) {
	g.out.releasing.Lock()
	defer g.out.releasing.Unlock()
	for {
		if done, all := g.releaseSome(epoch, until); done {
			return all
		}
	}
}

// releaseSome lets one batch leave; nobody waits longer than that for the lock.
func (g *Gate) releaseSome(epoch uint64, until time.Time) (done, all bool) {
	g.out.Lock()
	defer g.out.Unlock()
	if g.out.ended {
		return true, false
	}
	if len(g.out.cut) == 0 || g.out.cut[0].Epoch > epoch {
		return true, true
	}
	o := g.out.cut[0]
	if o.sent == o.Len() {
		g.dropOldest()
		return false, false
	}
	if !time.Now().Before(until) {
		return true, false
	}
	g.out.withheld = false
	g.sendNext(o, until)
	return false, false
}

// sendNext lets the next frames of the output that leave by the same port go.
func (g *Gate) sendNext(o *Output, until time.Time) {
	port, frames := o.next(g.out.batch[:0])
	g.transmit(port, until, &g.stats.released, frames...)
	o.sent += len(frames)
}

func (g *Gate) dropOldest() {
	o := g.out.cut[0]
	g.out.cut = append(g.out.cut[:0], g.out.cut[1:]...)
	g.out.bytes -= o.Bytes()
	o.reset()
	g.out.free = append(g.out.free, o)
}

// Resend lets one frame of a committed epoch leave that the old primary may not
// have sent. Frames of unknown ports are ignored.
func (g *Gate) Resend(f Frame) {
	g.out.Lock()
	defer g.out.Unlock()
	if len(f.Data) >= vnetHeader+ethernetHead {
		g.transmit(f.Port, time.Time{}, &g.stats.resent, append(g.out.batch[:0], f.Data)...)
	}
}
