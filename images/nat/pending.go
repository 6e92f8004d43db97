package nat

// maxPendingFrame is the longest frame in bytes that may wait for a neighbour.
const maxPendingFrame = 2048

// pendingFrame is a copy of a translated frame that waits for a neighbour.
type pendingFrame struct {
	to   Port
	hop  uint32
	p    packet // lies in data
	data [maxPendingFrame]byte
}

// pendingQueue holds waiting frames in the order of arrival, bounded in all and
// per neighbour.
type pendingQueue struct {
	queue []*pendingFrame
	free  []*pendingFrame
	share int // most frames of one neighbour
}

func newPendingQueue(size int) pendingQueue {
	q := pendingQueue{free: make([]*pendingFrame, size), queue: make([]*pendingFrame, 0, size), share: (size + 3) / 4}
	frames := make([]pendingFrame, size)
	for i := range frames {
		q.free[i] = &frames[i]
	}
	return q
}

// push keeps a copy of a frame. A full queue forgets its oldest frame for it, and
// says so: whom that waits for is the likeliest not to answer.
func (q *pendingQueue) push(to Port, hop uint32, p *packet) (displaced uint64, _ Drop) {
	if len(p.frame) > maxPendingFrame || q.waiting(to, hop) >= q.share {
		return 0, PendingFull
	}
	if len(q.free) == 0 {
		q.free = append(q.free, q.queue[0])
		q.queue = append(q.queue[:0], q.queue[1:]...)
		displaced = 1
	}
	f := q.free[len(q.free)-1]
	q.free = q.free[:len(q.free)-1]
	data := f.data[:copy(f.data[:], p.frame)]
	f.to, f.hop, f.p = to, hop, *p
	f.p.frame = data
	f.p.ip = data[etherLen:]
	f.p.l4 = data[len(data)-len(p.l4):]
	q.queue = append(q.queue, f)
	return displaced, none
}

func (q *pendingQueue) waiting(to Port, hop uint32) int {
	count := 0
	for _, f := range q.queue {
		if f.to == to && f.hop == hop {
			count++
		}
	}
	return count
}

// take removes the frames of one neighbour and hands them to each, in order.
func (q *pendingQueue) take(to Port, hop uint32, each func(*pendingFrame)) {
	kept := q.queue[:0]
	for _, f := range q.queue {
		if f.to != to || f.hop != hop {
			kept = append(kept, f)
			continue
		}
		each(f)
		q.free = append(q.free, f)
	}
	q.queue = kept
}

func (q *pendingQueue) drop(to Port, hop uint32) int {
	count := 0
	q.take(to, hop, func(*pendingFrame) { count++ })
	return count
}

// release sends what waited for a neighbour. The buffers count as free at once:
// no call that releases frames takes new ones in, so they stay untouched until
// the next call.
func (n *NAT) release(to Port, hop uint32, mac MAC, out []Output) []Output {
	if len(n.pending.queue) == 0 {
		return out
	}
	n.pending.take(to, hop, func(f *pendingFrame) {
		out = append(out, n.transmit(to, mac, &f.p))
	})
	return out
}
