package gate

import "time"

// drainTap takes every frame that the guest has sent on port i. Callers other
// than the pump call it with the output lock held through drainAll.
func (g *Gate) drainTap(i, fd int) error {
	g.out.Lock()
	defer g.out.Unlock()
	return g.drainTapLocked(i, fd)
}

func (g *Gate) drainTapLocked(i, fd int) error {
	p := g.ports[i]
	for {
		n, again, err := p.tap.Receive(fd, p.fromTap)
		if again || err != nil {
			return err
		}
		if n < vnetHeader+ethernetHead {
			continue
		}
		p.learned.snoop(p.MAC, p.fromTap[vnetHeader:n])
		g.emit(i, p.fromTap[:n])
	}
}

func (g *Gate) emit(i int, frame []byte) {
	switch g.out.mode {
	case passing:
		g.transmit(i, append(g.out.batch[:0], frame)...)
		g.stats.released.Add(1)
	case holding:
		g.store(i, frame)
	default:
		g.stats.outputDropped.Add(1)
	}
}

func (g *Gate) store(i int, frame []byte) {
	if g.out.bytes+len(frame) > g.limit.output {
		g.stats.outputDropped.Add(1)
		return
	}
	g.out.open.queue.push(i, frame)
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

func (g *Gate) transmit(port int, frames ...[]byte) {
	if port >= len(g.ports) {
		return
	}
	if lost, err := g.ports[port].uplink.SendAll(frames); err != nil {
		g.stats.sendErrors.Add(uint64(lost))
		g.log.Debug("frames not sent", "lost", lost, "error", err)
	}
}

// Hold keeps every frame from now on until its epoch is released.
func (g *Gate) Hold() { g.setOutput(holding) }

// Pass releases all that is held, in order, and lets output leave at once.
func (g *Gate) Pass() {
	g.out.Lock()
	defer g.out.Unlock()
	if g.out.ended {
		return
	}
	for len(g.out.cut) > 0 {
		g.releaseOldest()
	}
	g.sendAll(g.out.open)
	g.out.bytes -= g.out.open.Bytes()
	g.out.open.reset()
	g.out.mode = passing
}

// Silence drops what is held and everything after it, for ever.
func (g *Gate) Silence() {
	g.out.Lock()
	defer g.out.Unlock()
	g.out.mode, g.out.ended = silent, true
	g.out.cut, g.out.free, g.out.bytes = nil, nil, 0
	g.out.open = &Output{}
}

func (g *Gate) setOutput(m outputMode) {
	g.out.Lock()
	defer g.out.Unlock()
	if !g.out.ended {
		g.out.mode = m
	}
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
		g.out.mode = holding
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

// Release sends the output of every closed epoch up to the given one, in
// order. The epoch must be committed. At a time of day that the caller sets,
// looked at before each batch of frames, it stops and reports that there is more:
// a process that was stopped in the midst of it must not go on as if nothing had
// happened.
func (g *Gate) Release(epoch uint64, until time.Time) (all bool) {
	g.out.Lock()
	defer g.out.Unlock()
	for len(g.out.cut) > 0 && g.out.cut[0].Epoch <= epoch {
		if !g.sendUntil(g.out.cut[0], until) {
			return false
		}
		g.dropOldest()
	}
	return true
}

// sendUntil sends what of the output has not been sent.
func (g *Gate) sendUntil(o *Output, until time.Time) bool {
	for o.sent < o.Len() {
		if !time.Now().Before(until) {
			return false
		}
		g.sendNext(o)
	}
	return true
}

// sendNext sends the next frames of the output that leave by the same port.
func (g *Gate) sendNext(o *Output) {
	port := o.At(o.sent).Port
	frames := o.queue.run(g.out.batch[:0], o.sent, o.Len())
	g.transmit(port, frames...)
	o.sent += len(frames)
	g.stats.released.Add(uint64(len(frames)))
}

func (g *Gate) releaseOldest() {
	g.sendAll(g.out.cut[0])
	g.dropOldest()
}

func (g *Gate) dropOldest() {
	o := g.out.cut[0]
	g.out.cut = append(g.out.cut[:0], g.out.cut[1:]...)
	g.out.bytes -= o.Bytes()
	o.reset()
	g.out.free = append(g.out.free, o)
}

// sendAll sends what of the output has not been sent.
func (g *Gate) sendAll(o *Output) {
	for o.sent < o.Len() {
		g.sendNext(o)
	}
}

// Resend sends one frame of a committed epoch that the old primary may not
// have sent. Frames of unknown ports are ignored.
func (g *Gate) Resend(f Frame) {
	g.out.Lock()
	defer g.out.Unlock()
	if len(f.Data) < vnetHeader+ethernetHead {
		return
	}
	g.transmit(f.Port, f.Data)
	g.stats.resent.Add(1)
}
