package gate

import "time"

// lane holds the frames that arrived for one port, oldest first and back to back in
// one arena that is used again: those that wait to be handed in, and those that
// the log has not taken.
type lane struct {
	arena  []byte
	frames []arrived
	head   int // the oldest that is kept
	hand   int // the next to be handed in
	log    int // the next for the log
}

// arrived is one frame: its number, where it lies, when it came, and what the port's
// slow clock showed then.
type arrived struct {
	number   uint64
	from, to int
	at, slow time.Duration
}

func (l *lane) push(number uint64, data []byte, at, slow time.Duration) {
	from := len(l.arena)
	l.arena = append(l.arena, data...)
	l.frames = append(l.frames, arrived{number, from, len(l.arena), at, slow})
}

func (l *lane) data(i int) []byte { return l.arena[l.frames[i].from:l.frames[i].to] }

// waiting counts the frames that have not been handed in.
func (l *lane) waiting() int { return len(l.frames) - l.hand }

// unlogged counts the frames that the log has not taken.
func (l *lane) unlogged() int { return len(l.frames) - l.log }

// bytes of the frames that are kept.
func (l *lane) bytes() int {
	if l.head == len(l.frames) {
		return 0
	}
	return len(l.arena) - l.frames[l.head].from
}

// ready tells whether a frame waits whose number is at most upto.
func (l *lane) ready(upto uint64) bool {
	return l.waiting() > 0 && l.frames[l.hand].number <= upto
}

// next adds to a batch, as far as it has room, the frames that wait and whose numbers
// are at most upto.
func (l *lane) next(batch [][]byte, upto uint64) [][]byte {
	for i := l.hand; i < len(l.frames) && l.frames[i].number <= upto && len(batch) < cap(batch); i++ {
		batch = append(batch, l.data(i))
	}
	return batch
}

// waitingUpto counts the frames that wait and whose numbers are at most upto.
func (l *lane) waitingUpto(upto uint64) (n int) {
	for i := l.hand; i < len(l.frames) && l.frames[i].number <= upto; i++ {
		n++
	}
	return n
}

// drop forgets the frames before i.
func (l *lane) drop(i int) {
	l.head = max(l.head, i)
	l.hand, l.log = max(l.hand, l.head), max(l.log, l.head)
	switch {
	case l.head == len(l.frames):
		l.arena, l.frames = l.arena[:0], l.frames[:0]
		l.head, l.hand, l.log = 0, 0, 0
	case l.head > 1024 && l.head > len(l.frames)/2:
		l.compact()
	}
}

// compact moves what is left to the front of the arena.
func (l *lane) compact() {
	from := l.frames[l.head].from
	l.arena = append(l.arena[:0], l.arena[from:]...)
	l.frames = append(l.frames[:0], l.frames[l.head:]...)
	for i := range l.frames {
		l.frames[i].from -= from
		l.frames[i].to -= from
	}
	l.hand, l.log, l.head = l.hand-l.head, l.log-l.head, 0
}
