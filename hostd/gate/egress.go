package gate

import (
	"sync/atomic"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/fifo"
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
	fifo.Queue[permit]
	wake chan struct{}
}

// permit says how a frame may leave.
type permit struct {
	until time.Time      // by then, or not at all
	count *atomic.Uint64 // of frames that leave in its way
}

func newEgress() *egress { return &egress{wake: make(chan struct{}, 1)} }

func (e *egress) push(data []byte, p permit) {
	e.Push(data, p)
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// overdue counts the frames at the head whose time is over.
func (e *egress) overdue(now time.Time) (n int) {
	for n < e.Len() && !now.Before(e.Tag(n).until) {
		n++
	}
	return n
}

// next adds to a batch, as far as it has room, the first frames that are counted alike.
func (e *egress) next(batch [][]byte) (count *atomic.Uint64, frames [][]byte) {
	count = e.Tag(0).count
	for i := 0; i < e.Len() && len(batch) < cap(batch) && e.Tag(i).count == count; i++ {
		batch = append(batch, e.Data(i))
	}
	return count, batch
}

// drop forgets the first n frames and returns their bytes.
func (e *egress) drop(n int) (bytes int) {
	before := e.Bytes()
	e.Drop(n)
	return before - e.Bytes()
}

// transmit lets frames leave by a port, with the output's lock held: at once as
// far as the uplink takes them, and otherwise after those that wait already. It
// never waits. A zero until sets no time of day beyond the uplink's patience.
func (g *Gate) transmit(port int, until time.Time, count *atomic.Uint64, frames ...[]byte) {
	if g.out.ended || port < 0 || port >= len(g.ports) {
		return
	}
	p := g.ports[port]
	if p.egress.Len() == 0 {
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
	p.egress.push(frame, permit{until, count})
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
	if e.Len() == 0 || g.out.withheld {
		return 0, e.Len()
	}
	count, batch := e.next(g.out.batch[:0])
	done = g.offer(p, count, batch)
	clear(g.out.batch[:])
	g.out.waiting -= e.drop(done)
	return done, e.Len()
}

// forgetWaiting drops what waits for the uplinks.
func (g *Gate) forgetWaiting() {
	for _, p := range g.ports {
		g.stats.outputDropped.Add(uint64(p.egress.Len()))
		g.out.waiting -= p.egress.drop(p.egress.Len())
	}
}
