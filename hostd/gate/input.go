package gate

import "fmt"

// Log says what happens to arriving frames before the guest gets them.
type Log int

const (
	// LogOff hands frames in and keeps no log.
	LogOff Log = iota
	// LogAsync hands frames in at once and keeps them until the log has taken
	// them.
	LogAsync
	// LogSync hands a frame in once the log's far end holds it (Stored).
	LogSync
)

// input is the way of arriving frames. They are numbered from 1 in the order in
// which they are read from the uplinks, and wait in one queue until they have
// been handed in and the log has taken them.
type input struct {
	mode  inputMode
	log   Log
	queue ring
	// Numbers of the last frame that was handed in, taken by the log, and held
	// at its far end. handed and taken are at most the last one queued.
	handed, taken, stored uint64
	// takenBytes counts what the log has taken in all; committedBytes is what of
	// it lies before the last commit, cutBytes before the last cut.
	takenBytes, committedBytes, cutBytes uint64
	logLimit                             uint64
	batch                                [sendBatch][]byte // being handed in
}

// behind says how many bytes the log's far end must still keep.
func (in *input) behind() uint64 { return in.takenBytes - in.committedBytes }

func (g *Gate) drainUplink(i, fd int) error {
	g.in.Lock()
	defer g.in.Unlock()
	defer g.handIn()
	return g.drainUplinkLocked(i, fd)
}

func (g *Gate) drainUplinkLocked(i, fd int) error {
	p := g.ports[i]
	for {
		n, again, err := p.uplink.Receive(fd, p.fromUplink)
		if again || err != nil {
			return err
		}
		if n >= vnetHeader+ethernetHead {
			g.accept(i, p.fromUplink[:n])
		}
	}
}

// accept takes one frame, or drops it: a frame that cannot be kept until the
// log has it is not accepted at all.
func (g *Gate) accept(i int, frame []byte) {
	in := &g.in
	switch {
	case in.mode == dropping, !g.roomFor(frame):
		g.stats.inputDropped.Add(1)
	case in.mode == open && in.log == LogOff && in.queue.len() == 0:
		g.deliver(i, append(in.batch[:0], frame)...)
	default:
		in.queue.push(i, frame)
		if in.log != LogOff {
			g.signalLog()
		}
	}
}

func (g *Gate) roomFor(frame []byte) bool {
	in := &g.in
	if g.fits(frame) {
		return true
	}
	if in.mode == diverting {
		in.forgetDiverted()
		return g.fits(frame)
	}
	return in.log == LogAsync && in.mode == open && g.forgetLog()
}

func (g *Gate) fits(frame []byte) bool {
	in := &g.in
	if in.log == LogSync && in.behind()+uint64(in.queue.bytes()+len(frame)) > in.logLimit {
		return false
	}
	return in.queue.bytes()+len(frame) <= g.limit.input
}

// forgetDiverted gives up frames that the machine elsewhere has: this one would
// need them only if it went on here after all.
func (in *input) forgetDiverted() {
	in.handed = max(in.handed, in.taken)
	in.trim()
}

// forgetLog gives up the log of frames that the guest has already: an
// asynchronous log must not cost the machine its packets.
func (g *Gate) forgetLog() bool {
	g.handIn()
	in := &g.in
	g.stats.unlogged.Add(in.handed - min(in.handed, in.taken))
	in.taken = max(in.taken, in.handed)
	in.trim()
	return in.queue.len() == 0
}

// handIn gives the guest what it may have now, in order.
func (g *Gate) handIn() {
	in := &g.in
	if in.mode != open {
		return
	}
	last := in.queue.last()
	if in.log == LogSync {
		last = min(last, in.stored)
	}
	for in.handed < last {
		next := in.handed + 1
		frames := in.queue.run(in.batch[:0], next, last)
		g.deliver(in.queue.at(next).Port, frames...)
		in.handed += uint64(len(frames))
	}
	in.trim()
}

// trim forgets frames that nobody needs any more.
func (in *input) trim() {
	done := in.handed
	switch {
	case in.mode == dropping:
		done = in.taken // the guest gets no more here
	case in.log != LogOff:
		done = min(in.handed, in.taken)
	}
	in.queue.drop(done)
}

func (g *Gate) deliver(port int, frames ...[]byte) {
	p := g.ports[port]
	lost, err := p.tap.SendAll(frames)
	if err != nil {
		g.stats.inputDropped.Add(uint64(lost))
		g.log.Debug("frames not delivered", "lost", lost, "error", err)
	}
	delivered := uint64(len(frames) - lost)
	p.delivered += delivered
	g.stats.delivered.Add(delivered)
}

// HoldInput makes arriving frames wait. Once it has returned nothing is on its
// way into the machine from here.
func (g *Gate) HoldInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.mode = waiting
}

// OpenInput hands in what has waited, in order, and then what arrives.
func (g *Gate) OpenInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.mode = open
	g.handIn()
}

// DropInput drops what arrives, and what has waited.
func (g *Gate) DropInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.mode = dropping
	g.in.discard()
}

func (in *input) discard() {
	in.handed, in.taken = in.queue.last(), in.queue.last()
	in.queue.drop(in.queue.last())
}

// Inject hands one frame in before those that wait.
func (g *Gate) Inject(f Frame) {
	if f.Port < 0 || f.Port >= len(g.ports) || len(f.Data) < vnetHeader+ethernetHead {
		return
	}
	g.in.Lock()
	defer g.in.Unlock()
	g.deliver(f.Port, f.Data)
}

// InputCut says which numbered frames the guest has: those up to Upto, but for
// the last Tails[i] of port i, which QEMU may not have taken from the tap.
type InputCut struct {
	Upto  uint64
	Tails []uint32
}

// CutInput tells what the guest has been given. Input must be held. QEMU goes
// on reading the tap meanwhile, so a tail is never too short.
func (g *Gate) CutInput() (InputCut, error) {
	g.in.Lock()
	defer g.in.Unlock()
	c := InputCut{Upto: g.in.handed}
	for _, p := range g.ports {
		unread, err := p.unread()
		if err != nil {
			return c, fmt.Errorf("ask how much of port %s QEMU has read: %w", p.Name, err)
		}
		c.Tails = append(c.Tails, unread)
	}
	g.in.cutBytes = g.in.takenBytes
	return c, nil
}

// CommitInput says that the last cut is committed: the log's far end has
// dropped what lay before it.
func (g *Gate) CommitInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.committedBytes = g.in.cutBytes
	g.handIn()
}

// unread is how many of the frames handed in QEMU has certainly not made the
// guest's own. While some are left in the tap one more may wait inside QEMU.
func (p *port) unread() (uint32, error) {
	read, err := p.tap.Taken()
	if err != nil {
		return 0, err
	}
	if taken := read - p.readBefore; taken < p.delivered {
		return uint32(min(p.delivered, p.delivered-taken+1)), nil
	}
	return 0, nil
}
