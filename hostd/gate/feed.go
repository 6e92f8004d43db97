package gate

import (
	"errors"
	"math"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/lane"
	"github.com/stillpoint-ft/stillpoint/hostd/segment"
)

const (
	// DefaultInputDelay bounds how long a frame waits for a guest that is slow.
	DefaultInputDelay = time.Second
	// feedMost is how many frames one port is handed before others have their turn at
	// the input.
	feedMost = 2 * lane.FlightMost
	// feedAgain is after which time a tap that had no room is tried again.
	feedAgain = time.Millisecond
	// staleAfter many times the bound for a slow guest, what QEMU has not taken out of
	// its tap is dropped there, too.
	staleAfter = 10
)

// A tap that has no more frames in it than it may has room for the pieces of one more.
const _ = uint(lane.FlightRoom - lane.FlightMost - segment.PiecesMost)

// keepFeeding hands in what taps had no room for, until the gate is closed.
func (g *Gate) keepFeeding() {
	defer g.wg.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-g.blocked:
		case <-g.closed:
			return
		}
		for more := true; more; more = g.feedBlocked() {
			timer.Reset(feedAgain)
			select {
			case <-timer.C:
			case <-g.closed:
				return
			}
		}
	}
}

// feedBlocked tries the ports again whose taps had no room.
func (g *Gate) feedBlocked() (more bool) {
	g.in.Lock()
	defer g.in.Unlock()
	for _, p := range g.ports {
		if p.blocked {
			g.feed(p)
			more = more || p.blocked
		}
	}
	return more
}

// handIn gives the guest what it may have now.
func (g *Gate) handIn() {
	for _, p := range g.ports {
		g.feed(p)
	}
}

// feed gives one port what it may have now, in order, as far as its tap has room, and
// drops what has waited too long for that.
func (g *Gate) feed(p *port) {
	p.blocked = false
	if g.mayInject() {
		p.blocked = !g.feedEarly(p)
	}
	if g.in.mode == open && !p.blocked {
		p.blocked = !g.feedLane(p)
		g.age(p)
	}
	if p.blocked {
		select {
		case g.blocked <- struct{}{}:
		default:
		}
	}
}

// feedEarly hands in what was injected. It reports false when the tap has no room.
func (g *Gate) feedEarly(p *port) (all bool) {
	l := &p.early
	for done := 0; done < feedMost && l.Ready(0); {
		n, full := g.offerTap(p, l.Batch(g.in.batch[:0:g.room(p)], 0), 0)
		if n > 0 {
			l.Hand(n)
		}
		done += n
		g.in.early -= l.Bytes()
		l.Trim(false)
		g.in.early += l.Bytes()
		if full {
			return false
		}
	}
	return !l.Ready(0)
}

// feedLane hands in what waits and may be handed in. It reports false when the tap
// has no room.
func (g *Gate) feedLane(p *port) (all bool) {
	l, upto := &p.lane, g.mayHave()
	defer g.trim(p)
	for done := 0; done < feedMost && l.Ready(upto); {
		n, full := g.offerTap(p, l.Batch(g.in.batch[:0:g.room(p)], upto), 1)
		if n > 0 {
			g.passedBy(p, n)
		}
		done += n
		if full {
			return false
		}
	}
	return !l.Ready(upto)
}

// mayHave is the number of the last frame that the guest may be handed.
func (g *Gate) mayHave() uint64 {
	if g.in.log == LogSync {
		return g.in.stored
	}
	return math.MaxUint64
}

// room is how many frames the tap may be given in one batch.
func (g *Gate) room(p *port) int {
	if p.flight.Len() >= lane.FlightMost {
		if err := g.settle(p); err != nil {
			g.log.Debug("frames wait: the tap's counters cannot be read", "tap", p.Tap, "error", err)
		}
	}
	return max(0, min(lane.FlightMost-p.flight.Len(), sendBatch))
}

// feedOne hands in a frame before which none waits, without keeping it. It reports
// false when the tap has no room.
func (g *Gate) feedOne(p *port, frame []byte) bool {
	if g.room(p) == 0 {
		return false
	}
	n, _ := g.offerTap(p, append(g.in.batch[:0], frame), 0)
	return n == 1
}

// offerTap gives frames to the tap, until it has no room. Of each, as many as numbered
// says belong to the log. It returns how many need not be offered again.
func (g *Gate) offerTap(p *port, frames [][]byte, numbered uint64) (n int, full bool) {
	if len(frames) == 0 {
		return 0, true
	}
	n, err := p.tap.HandIn(frames)
	for i := range n {
		p.flight.Add(p.passed + uint64(i)*numbered)
	}
	g.stats.delivered.Add(uint64(n))
	if err == nil {
		return n, false
	}
	next := frames[n]
	if errors.Is(err, ErrFull) {
		if !segment.Segmented(next) || p.flight.Len() > lane.FlightMost {
			return n, true
		}
		if err = g.offerPieces(p, next, p.passed+uint64(n)*numbered); errors.Is(err, ErrFull) {
			return n, true
		}
	}
	if err != nil {
		g.undeliverable(p, next, err)
	}
	return n + 1, false
}

// offerPieces: a tap whose guest takes no frames that stand for many refuses them as
// it does when it is full. There is room for all pieces, or for none.
func (g *Gate) offerPieces(p *port, frame []byte, before uint64) error {
	c := &g.in.cutter
	if err := c.Cut(frame); err != nil {
		return err
	}
	for i := 0; i < c.Len(); {
		batch := c.Batch(g.in.pieces[:0], i)
		n, err := p.tap.HandIn(batch)
		for range n {
			p.flight.Add(before)
		}
		if i += n; err != nil && i == 0 {
			return err
		}
		if err != nil {
			g.log.Debug("the rest of a frame of many segments was not delivered", "tap", p.Tap, "error", err)
			break
		}
	}
	g.stats.delivered.Add(1)
	return nil
}

// undeliverable counts a frame that the tap will never take, and says so once; who
// watches the taps tells of one that takes none.
func (g *Gate) undeliverable(p *port, frame []byte, err error) {
	g.stats.inputDropped.Add(1)
	if !p.toldRefused && !errors.Is(err, ErrDown) && !errors.Is(err, ErrGone) {
		p.toldRefused = true
		g.log.Warn("a frame that arrived cannot be given to the guest; it was dropped, and others like it will be", "tap", p.Tap, "bytes", len(frame)-vnetHeader, "error", err)
	}
}

// age drops what has waited for the guest too long, the oldest first, as long as the
// tap has no room.
func (g *Gate) age(p *port) {
	if !p.blocked && !p.slow.Running() {
		return
	}
	now := g.now()
	if !p.blocked {
		p.slow.CaughtUp(now)
		return
	}
	p.slow.Await(now, p.lane.Next().At, g.limit.delay)
	shown, late := p.slow.At(now), 0
	for l, upto := &p.lane, g.mayHave(); l.Ready(upto) && shown-l.Next().Slow > g.limit.delay; late++ {
		g.passedBy(p, 1)
	}
	g.stats.inputLate.Add(uint64(late))
	g.stats.inputDropped.Add(uint64(late))
	g.trim(p)
	g.dropStale(p, shown)
}

// dropStale empties a tap that QEMU has taken nothing from for long: it would read
// packets of another time first. It also mends a tap from which frames went missing.
func (g *Gate) dropStale(p *port, shown time.Duration) {
	if p.flight.Settled() != p.progress.taken || shown < p.progress.shown || p.flight.Len() == 0 {
		p.progress.taken, p.progress.shown = p.flight.Settled(), shown
		return
	}
	if shown-p.progress.shown < staleAfter*g.limit.delay {
		return
	}
	p.progress.shown = shown
	err := g.settle(p)
	if err == nil && (p.flight.Settled() != p.progress.taken || p.flight.Len() == 0) {
		return
	}
	if err == nil {
		err = errors.Join(p.tap.Empty(), g.settle(p))
	}
	if err != nil {
		g.log.Warn("a tap that nobody reads was not emptied", "tap", p.Tap, "error", err)
		return
	}
	g.stats.inputLate.Add(uint64(p.flight.Len()))
	g.dropFlight(p)
}

// dropFlight: what was in a tap is gone, and QEMU has not taken it.
func (g *Gate) dropFlight(p *port) {
	g.stats.inputDropped.Add(uint64(p.flight.Len()))
	g.stats.delivered.Add(-uint64(p.flight.Len()))
	p.flight.Empty(p.passed)
}
