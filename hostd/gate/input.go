package gate

import (
	"errors"
	"fmt"
	"math"

	"github.com/stillpoint-ft/stillpoint/hostd/lane"
	"github.com/stillpoint-ft/stillpoint/hostd/segment"
)

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
// which they are read from the uplinks, and wait in their port's lane until they
// have been handed in and the log has taken them.
type input struct {
	mode   inputMode
	log    Log
	opened bool // has been open once
	// Numbers of the last frame that arrived, of the last that was handed in
	// (earlier ones of other ports may wait), of the last that is held at the log's
	// far end.
	last, handed, stored uint64
	// Bytes that arrived for the log in all; that it has taken; what of that lies
	// before the last commit, and before the last cut.
	loggedBytes, takenBytes, committedBytes, cutBytes uint64
	logLimit                                          uint64
	early                                             int               // bytes that were injected and wait
	batch                                             [sendBatch][]byte // being handed in
	cutter                                            segment.Cutter
	pieces                                            [sendBatch][]byte // being handed in
}

// behind says how many bytes the log's far end must still keep.
func (in *input) behind() uint64 { return in.takenBytes - in.committedBytes }

// drainBatch is how many frames are read from an uplink before others have their turn
// at the input.
const drainBatch = 64

func (g *Gate) drainUplink(i, fd int) error {
	for more := true; more; {
		select {
		case <-g.closed:
			return nil
		default:
		}
		var err error
		if more, err = g.drainSome(i, fd); err != nil {
			return err
		}
	}
	return nil
}

func (g *Gate) drainSome(i, fd int) (more bool, err error) {
	g.in.LockLast()
	defer g.in.UnlockLast()
	more, err = g.receiveSome(i, fd)
	if p := g.ports[i]; g.in.mode == open && !p.blocked {
		g.feed(p)
	}
	return more, err
}

func (g *Gate) receiveSome(i, fd int) (more bool, err error) {
	p := g.ports[i]
	for range drainBatch {
		n, again, err := p.uplink.Receive(fd, p.fromUplink)
		if errors.Is(err, ErrUncarried) {
			g.uncarriedFrame(p, p.Uplink, 0, err)
			continue
		}
		if again || err != nil {
			return false, err
		}
		if n >= vnetHeader+ethernetHead {
			// A standby hears the machine itself, and so does who is taking it over.
			if g.in.opened && g.in.mode != dropping {
				p.learned.Hear(p.fromUplink[vnetHeader:n])
			}
			g.arrive(p, p.fromUplink[:n])
		}
	}
	return true, nil
}

// accept takes one frame, or drops it: a frame that cannot be kept until the
// log has it is not accepted at all.
func (g *Gate) accept(p *port, frame []byte) {
	in := &g.in
	switch {
	case in.mode == dropping, !g.roomFor(p, frame):
		g.stats.inputDropped.Add(1)
	case in.mode == open && in.log == LogOff && p.idle() && g.feedOne(p, frame):
	default:
		g.keep(p, frame)
	}
}

// keep lets a frame wait for what comes before it, and for the log.
func (g *Gate) keep(p *port, frame []byte) {
	in, now := &g.in, g.now()
	in.last++
	p.lane.Push(frame, lane.Arrival{Number: in.last, At: now, Slow: p.slow.At(now)})
	if in.log != LogOff {
		in.loggedBytes += uint64(len(frame))
		g.signalLog()
	}
}

func (g *Gate) roomFor(p *port, frame []byte) bool {
	in := &g.in
	if g.fits(p, frame) {
		return true
	}
	switch {
	case in.mode == diverting:
		g.forgetDiverted()
	case in.log == LogAsync && in.mode == open:
		g.forgetLog()
	default:
		return false
	}
	return g.fits(p, frame)
}

func (g *Gate) fits(p *port, frame []byte) bool {
	in := &g.in
	if in.log == LogSync && in.loggedBytes-in.committedBytes+uint64(len(frame)) > in.logLimit {
		return false
	}
	return p.lane.Bytes()+len(frame) <= g.limit.input-g.others(p)
}

// others is what of the bound for waiting frames is not this port's: what other ports
// have waiting, and a share for each, so that a port which is not read starves none.
func (g *Gate) others(p *port) (bytes int) {
	share := g.limit.input / (4 * len(g.ports))
	for _, o := range g.ports {
		if o != p {
			bytes += max(share, o.lane.Bytes())
		}
	}
	return bytes
}

// forgetDiverted gives up frames that the machine elsewhere has: this one would
// need them only if it went on here after all.
func (g *Gate) forgetDiverted() {
	for _, p := range g.ports {
		if n := p.lane.Ahead(); n < 0 {
			g.passedBy(p, -n)
		}
		g.trim(p)
	}
}

// forgetLog gives up the log of frames that the guest has already: an
// asynchronous log must not cost the machine its packets.
func (g *Gate) forgetLog() {
	g.handIn()
	for _, p := range g.ports {
		if n := p.lane.Ahead(); n > 0 {
			g.stats.unlogged.Add(uint64(n))
			p.lane.LogWhatWaits()
		}
		g.trim(p)
	}
}

// passedBy says that n frames of a port need not be handed in any more.
func (g *Gate) passedBy(p *port, n int) {
	p.passed += uint64(n)
	g.in.handed = max(g.in.handed, p.lane.Hand(n))
}

// trim forgets frames that nobody needs any more.
func (g *Gate) trim(p *port) { p.lane.Trim(g.in.log != LogOff) }

// HoldInput makes arriving frames wait. Once it has returned nothing is on its
// way into the machine from here.
func (g *Gate) HoldInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.mode = waiting
	g.stopClocks()
}

// OpenInput hands in what has waited, in order, and then what arrives. What the taps
// have no room for follows.
func (g *Gate) OpenInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.mode, g.in.opened = open, true
	g.handIn()
}

// DropInput drops what arrives, and what has waited.
func (g *Gate) DropInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.mode = dropping
	g.stopClocks()
	for _, p := range g.ports {
		p.lane.Clear()
		p.early.Clear()
	}
	g.in.handed, g.in.early, g.in.loggedBytes = g.in.last, 0, g.in.takenBytes
}

func (g *Gate) stopClocks() {
	now := g.now()
	for _, p := range g.ports {
		p.slow.Stop(now)
	}
}

// injectedMost bounds the bytes of injected frames that wait: more than a takeover
// has to hand in.
const injectedMost = 256 << 20

// Inject hands one frame in before those that wait. What the tap has no room for
// waits, and follows at once if input was never open, otherwise while it is.
func (g *Gate) Inject(f Frame) {
	if f.Port < 0 || f.Port >= len(g.ports) || len(f.Data) < vnetHeader+ethernetHead {
		return
	}
	g.in.Lock()
	defer g.in.Unlock()
	if g.in.mode == dropping || g.in.early+len(f.Data) > injectedMost {
		g.stats.inputDropped.Add(1)
		return
	}
	p := g.ports[f.Port]
	p.early.Push(f.Data, lane.Arrival{})
	g.in.early += len(f.Data)
	if g.mayInject() && !p.blocked {
		g.feed(p)
	}
}

// mayInject: a takeover hands in before input opens; later a checkpoint may be under
// way, while input is held.
func (g *Gate) mayInject() bool {
	return g.in.mode == open || g.in.mode == waiting && !g.in.opened
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
		if err := g.settle(p); err != nil {
			return c, fmt.Errorf("ask how much of port %s QEMU has read: %w", p.Name, err)
		}
		c.Tails = append(c.Tails, p.tail(c.Upto))
	}
	g.in.cutBytes = g.in.takenBytes
	return c, nil
}

// tail is how many of the port's frames, up to a number, the guest may not have: from
// the last one that QEMU has taken, which may wait inside it while others are in the
// tap, to the last that waits here.
func (p *port) tail(upto uint64) uint32 {
	waiting := uint64(p.lane.WaitingUpto(upto))
	if p.flight.Len() == 0 && waiting == 0 {
		p.flight.Empty(p.passed) // and the guest has it
		return 0
	}
	return uint32(min(p.passed+waiting-p.flight.Taken(), math.MaxUint32))
}

// settle asks what QEMU has taken of a tap. One that is gone is a port that nobody
// reads: the machine goes on, and so does its protection.
func (g *Gate) settle(p *port) error {
	total, err := p.tap.Taken()
	if errors.Is(err, ErrGone) {
		g.dropFlight(p)
		return nil
	}
	if err != nil {
		return err
	}
	if n := p.flight.Settle(total); n > 0 && !p.toldOthers {
		p.toldOthers = true
		g.log.Warn("frames that are not the gate's have left a tap, by a way past its queue discipline: what the guest has got is uncertain", "tap", p.Tap, "frames", n)
	}
	return nil
}

// CommitInput says that the last cut is committed: the log's far end has
// dropped what lay before it.
func (g *Gate) CommitInput() {
	g.in.Lock()
	defer g.in.Unlock()
	g.in.committedBytes = g.in.cutBytes
}
