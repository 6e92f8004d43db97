// Package fifo keeps frames that wait, oldest first and back to back in one arena that
// is used again: to hold a frame allocates nothing once the arena has grown.
package fifo

// Queue holds data with a tag each. Its zero value is empty.
type Queue[T any] struct {
	arena []byte
	items []item[T]
	head  int // the oldest that is kept
}

type item[T any] struct {
	from, to int
	tag      T
}

// compactAfter many items that are gone the arena moves up, where they are most of it.
const compactAfter = 1024

// Push copies data to the end.
func (q *Queue[T]) Push(data []byte, tag T) {
	from := len(q.arena)
	q.arena = append(q.arena, data...)
	q.items = append(q.items, item[T]{from, len(q.arena), tag})
}

// Len counts what waits.
func (q *Queue[T]) Len() int { return len(q.items) - q.head }

// Bytes of what waits.
func (q *Queue[T]) Bytes() int {
	if q.Len() == 0 {
		return 0
	}
	return len(q.arena) - q.items[q.head].from
}

// Data is what waits behind i others. It is valid until something is pushed or dropped.
func (q *Queue[T]) Data(i int) []byte {
	s := &q.items[q.head+i]
	return q.arena[s.from:s.to]
}

// Tag of what waits behind i others.
func (q *Queue[T]) Tag(i int) *T { return &q.items[q.head+i].tag }

// Drop forgets the first n.
func (q *Queue[T]) Drop(n int) {
	q.head += n
	switch {
	case q.head == len(q.items):
		q.arena, q.items, q.head = q.arena[:0], q.items[:0], 0
	case q.head > compactAfter && q.head > len(q.items)/2:
		q.compact()
	}
}

// compact moves what is left to the front of the arena.
func (q *Queue[T]) compact() {
	from := q.items[q.head].from
	q.arena = append(q.arena[:0], q.arena[from:]...)
	q.items = append(q.items[:0], q.items[q.head:]...)
	for i := range q.items {
		q.items[i].from -= from
		q.items[i].to -= from
	}
	q.head = 0
}
