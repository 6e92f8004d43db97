package gate

// Frame is one Ethernet frame of a port, virtio header (10 bytes) first.
type Frame struct {
	Port int
	Data []byte
}

// queue keeps frames back to back in one arena that is used again, so that
// holding a frame allocates nothing once the arena has grown.
type queue struct {
	arena  []byte
	frames []span
}

type span struct{ port, from, to int }

func (q *queue) push(port int, data []byte) {
	from := len(q.arena)
	q.arena = append(q.arena, data...)
	q.frames = append(q.frames, span{port, from, len(q.arena)})
}

func (q *queue) at(i int) Frame {
	s := q.frames[i]
	return Frame{Port: s.port, Data: q.arena[s.from:s.to]}
}

// run adds to a batch, as far as it has room, the frames from number i on that
// go to the same port as that one; to bounds them.
func (q *queue) run(batch [][]byte, i, to int) [][]byte {
	for port := q.frames[i].port; i < to && len(batch) < cap(batch) && q.frames[i].port == port; i++ {
		batch = append(batch, q.at(i).Data)
	}
	return batch
}

func (q *queue) len() int   { return len(q.frames) }
func (q *queue) bytes() int { return len(q.arena) }

func (q *queue) reset() {
	q.arena, q.frames = q.arena[:0], q.frames[:0]
}

// Output is what the guest sent in one epoch. It is read-only once cut, and
// valid until its epoch is released or dropped.
type Output struct {
	Epoch uint64
	queue queue
	sent  int // frames of it that have left
}

func (o *Output) reset() {
	o.queue.reset()
	o.sent = 0
}

// Len counts the frames of the epoch.
func (o *Output) Len() int { return o.queue.len() }

// Bytes counts the held bytes, virtio headers included.
func (o *Output) Bytes() int { return o.queue.bytes() }

// At returns frame i in the order in which the guest sent them.
func (o *Output) At(i int) Frame { return o.queue.at(i) }
