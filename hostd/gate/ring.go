package gate

// ring is a queue of numbered frames, back to back in one arena. Frames are
// dropped from its head; the arena is used again.
type ring struct {
	queue
	first uint64 // number of frames[head]; 0 stands for 1
	head  int
}

// last is the number of the newest frame, dropped ones included.
func (r *ring) last() uint64 { return r.next() + uint64(r.len()) - 1 }

// next is the number of the oldest frame, or that of the next to come.
func (r *ring) next() uint64 { return max(r.first, 1) }

func (r *ring) len() int { return len(r.frames) - r.head }

func (r *ring) bytes() int {
	if r.len() == 0 {
		return 0
	}
	return len(r.arena) - r.frames[r.head].from
}

// at is the frame of a number, which must be in the ring.
func (r *ring) at(number uint64) Frame { return r.queue.at(r.index(number)) }

// run adds frames of one port, from a number on and up to another, to a batch
// that may hold so many.
func (r *ring) run(batch [][]byte, from, to uint64) [][]byte {
	return r.queue.run(batch, r.index(from), r.index(to)+1)
}

func (r *ring) index(number uint64) int { return r.head + int(number-r.next()) }

// drop forgets the frames up to a number.
func (r *ring) drop(number uint64) {
	if number < r.next() {
		return
	}
	n := min(int(number-r.next())+1, r.len())
	r.head += n
	r.first = r.next() + uint64(n)
	if r.len() == 0 {
		r.queue.reset()
		r.head = 0
	} else if r.head > 1024 && r.head > len(r.frames)/2 {
		r.compact()
	}
}

// compact moves what is left to the front of the arena.
func (r *ring) compact() {
	from := r.frames[r.head].from
	r.arena = append(r.arena[:0], r.arena[from:]...)
	kept := append(r.frames[:0], r.frames[r.head:]...)
	for i := range kept {
		kept[i].from -= from
		kept[i].to -= from
	}
	r.frames, r.head = kept, 0
}

// renumber counts the frames that are left from 1.
func (r *ring) renumber() { r.first = 1 }
