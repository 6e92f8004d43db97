package gate

import (
	"sync/atomic"
	"time"
)

const (
	// uplinkPatience is how long a frame waits for an uplink that takes no more: as
	// long as a queue of a router may be, and no longer.
	uplinkPatience = 250 * time.Millisecond
	// uplinkRest is the time between two tries.
	uplinkRest = time.Millisecond
)

// egress holds frames that may leave and that the port's uplink does not take
// yet, in order. It is guarded by the output's lock.
type egress struct {
	arena  []byte
	frames []waitingFrame
	head   int
	wake   chan struct{}
}

type waitingFrame struct {
	from, to int
	until    time.Time      // it leaves by then, or not at all
	count    *atomic.Uint64 // of frames that leave in its way
}

func newEgress() *egress { return &egress{wake: make(chan struct{}, 1)} }

func (e *egress) len() int { return len(e.frames) - e.head }

func (e *egress) push(data []byte, until time.Time, count *atomic.Uint64) {
	from := len(e.arena)
	e.arena = append(e.arena, data...)
	e.frames = append(e.frames, waitingFrame{from, len(e.arena), until, count})
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *egress) size(i int) int { return e.frames[e.head+i].to - e.frames[e.head+i].from }

// overdue counts the frames at the head whose time is over.
func (e *egress) overdue(now time.Time) (n int) {
	for n < e.len() && !now.Before(e.frames[e.head+n].until) {
		n++
	}
	return n
}

// run adds the first frames to a batch, as far as it has room.
func (e *egress) run(batch [][]byte) [][]byte {
	for i := e.head; i < len(e.frames) && len(batch) < cap(batch); i++ {
		batch = append(batch, e.arena[e.frames[i].from:e.frames[i].to])
	}
	return batch
}

// drop forgets the first n frames and returns their bytes. The arena is used
// again.
func (e *egress) drop(n int) (bytes int) {
	for i := range n {
		bytes += e.size(i)
	}
	e.head += n
	if e.len() == 0 {
		e.arena, e.frames, e.head = e.arena[:0], e.frames[:0], 0
	} else if e.head > 1024 && e.head > len(e.frames)/2 {
		e.compact()
	}
	return bytes
}

func (e *egress) compact() {
	from := e.frames[e.head].from
	e.arena = append(e.arena[:0], e.arena[from:]...)
	e.frames = append(e.frames[:0], e.frames[e.head:]...)
	for i := range e.frames {
		e.frames[i].from -= from
		e.frames[i].to -= from
	}
	e.head = 0
}

// transmit lets frames leave by a port, with the output's lock held: at once as
// far as the uplink takes them, and otherwise after those that wait already. It
// never waits. A zero until sets no time of day beyond the uplink's patience.
func (g *Gate) transmit(port int, until time.Time, count *atomic.Uint64, frames ...[]byte) {
	if g.out.ended || port < 0 || port >= len(g.ports) {
		return
	}
	p := g.ports[port]
	if p.egress.len() == 0 {
		frames = frames[g.offer(p, count, frames):]
	}
	if len(frames) == 0 {
		return
	}
	if patience := time.Now().Add(g.patience); until.IsZero() || patience.Before(until) {
		until = patience
	}
	for _, f := range frames {
		g.wait(p, until, count, f)
	}
}

func (g *Gate) wait(p *port, until time.Time, count *atomic.Uint64, frame []byte) {
	if g.out.waiting+len(frame) > g.limit.output {
		g.lose(1)
		return
	}
	g.out.waiting += len(frame)
	p.egress.push(frame, until, count)
}

// offer gives frames to the uplink as long as it takes any, and returns how many
// it is done with. A frame that it refuses is lost.
func (g *Gate) offer(p *port, count *atomic.Uint64, frames [][]byte) (done int) {
	for done < len(frames) {
		n, lost, full, err := p.uplink.Offer(frames[done:min(len(frames), done+sendBatch)])
		done += n
		if lost > 0 {
			g.lose(lost)
			g.log.Debug("frames not sent", "port", p.Name, "lost", lost, "error", err)
		}
		if p.uplinkKnown.now().Up() {
			count.Add(uint64(n - lost))
		} else { // the kernel takes frames that an interface without a carrier cannot send
			g.lose(n - lost)
		}
		if full {
			break
		}
	}
	return done
}

// lose counts frames that an uplink does not take.
func (g *Gate) lose(n int) { g.stats.lost.Add(uint64(n)) }

// sendWaiting lets what waits for a port's uplink leave as it takes it, until the
// gate is closed.
func (g *Gate) sendWaiting(p *port) {
	defer g.wg.Done()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-p.egress.wake:
		case <-g.closed:
			return
		}
		for g.sendSome(p) {
			rest.Reset(uplinkRest)
			select {
			case <-rest.C:
			case <-g.closed:
				return
			}
		}
	}
}

// sendSome reports that frames still wait. The lock is held for no longer than
// one batch, and looked at before each is whether anything may leave at all, and
// the time: a process that was stopped in the midst of it must not go on as if
// nothing had happened.
func (g *Gate) sendSome(p *port) (more bool) {
	for {
		done, left := g.sendWaitingBatch(p)
		if left == 0 || done == 0 {
			return left > 0
		}
	}
}

func (g *Gate) sendWaitingBatch(p *port) (done, left int) {
	g.out.Lock()
	defer g.out.Unlock()
	e := p.egress
	if n := e.overdue(time.Now()); n > 0 {
		g.lose(n)
		g.out.waiting -= e.drop(n)
	}
	if e.len() == 0 || g.out.withheld {
		return 0, e.len()
	}
	count := e.frames[e.head].count
	batch := e.run(g.out.batch[:0])
	for i := range batch {
		if e.frames[e.head+i].count != count {
			batch = batch[:i]
			break
		}
	}
	done = g.offer(p, count, batch)
	clear(g.out.batch[:])
	g.out.waiting -= e.drop(done)
	return done, e.len()
}

// forgetWaiting drops what waits for the uplinks.
func (g *Gate) forgetWaiting() {
	for _, p := range g.ports {
		g.stats.outputDropped.Add(uint64(p.egress.len()))
		g.out.waiting -= p.egress.drop(p.egress.len())
	}
}
