package lab

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"
)

// Shape is what a segment does to each frame that enters it from one of its
// cables. The fate of a cable's n-th frame depends on Seed alone, as long as
// the probabilities are the same; when frames come is the senders' affair. A
// frame of TCP may be a segment of up to 64 KiB.
type Shape struct {
	// Delay of every frame, and up to as much more as Jitter says, evenly
	// spread. Jitter alone keeps the frames' order.
	Delay, Jitter time.Duration
	// Reorder is the probability, 0 to 1, that a frame comes later than its
	// Delay and Jitter by Late (default 2 ms), so that others overtake it.
	Reorder float64
	Late    time.Duration
	// Loss is the probability, 0 to 1, that a frame vanishes.
	Loss float64
	Seed uint64
}

func (s Shape) check() error {
	for _, d := range []time.Duration{s.Delay, s.Jitter, s.Late} {
		if d < 0 {
			return fmt.Errorf("%v: want no negative time", d)
		}
	}
	for _, p := range []float64{s.Reorder, s.Loss} {
		if !(p >= 0 && p <= 1) { // NaN is neither
			return fmt.Errorf("probability %v: want 0 to 1", p)
		}
	}
	return nil
}

// none tells that frames pass as in a bridge.
func (s Shape) none() bool {
	return s.Delay == 0 && s.Jitter == 0 && s.Reorder == 0 && s.Loss == 0
}

// shaper decides the fates of one cable's frames. It holds no clock. It must
// not be called concurrently.
type shaper struct {
	shape  Shape
	random *rand.Rand
	last   time.Time // when the last frame that keeps the order is due
}

func newShaper(s Shape, port string) *shaper {
	if s.Late == 0 {
		s.Late = 2 * time.Millisecond
	}
	h := fnv.New64a() // another sequence for each cable
	h.Write([]byte(port))
	return &shaper{shape: s, random: rand.New(rand.NewPCG(s.Seed, h.Sum64()))}
}

// frame decides when a frame that came now is due, or that it is lost.
func (s *shaper) frame(now time.Time) (due time.Time, lost bool) {
	// Three draws for every frame, so that changing one probability leaves
	// the rest of the sequence as it was.
	lost = s.random.Float64() < s.shape.Loss
	late := s.random.Float64() < s.shape.Reorder
	jitter := time.Duration(s.random.Float64() * float64(s.shape.Jitter))
	if lost {
		return time.Time{}, true
	}
	due = now.Add(s.shape.Delay + jitter)
	if late {
		return due.Add(s.shape.Late), false
	}
	if due.Before(s.last) {
		due = s.last
	}
	s.last = due
	return due, false
}

// onWay holds the frames of one cable until they are due. Safe for concurrent
// use.
type onWay struct {
	earlier chan struct{} // has room for one: the head of the queue changed

	mu     sync.Mutex
	frames dueFrames
	order  uint64
	bytes  int
}

func newOnWay() *onWay { return &onWay{earlier: make(chan struct{}, 1)} }

// put a frame that is the callee's from now on. Where too much is on its way
// it is dropped.
func (w *onWay) put(due time.Time, frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.frames) >= relayFrames || w.bytes+len(frame) > relayBytes {
		return
	}
	w.order++
	w.bytes += len(frame)
	heap.Push(&w.frames, dueFrame{due, w.order, frame})
	if w.frames[0].order != w.order {
		return
	}
	select {
	case w.earlier <- struct{}{}:
	default:
	}
}

// take returns the frame that is due; if there is none, how long to wait for
// the next, unless an earlier one comes.
func (w *onWay) take(now time.Time) (frame []byte, wait time.Duration) {
	const idle = time.Hour
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.frames) == 0 {
		return nil, idle
	}
	if wait = w.frames[0].due.Sub(now); wait > 0 {
		return nil, wait
	}
	f := heap.Pop(&w.frames).(dueFrame)
	w.bytes -= len(f.frame)
	return f.frame, 0
}

type dueFrame struct {
	due   time.Time
	order uint64 // of coming
	frame []byte // with its virtio header
}

// dueFrames is a heap, the frame that is due first on top; of two that are due
// at once, the one that came first.
type dueFrames []dueFrame

func (d dueFrames) Len() int      { return len(d) }
func (d dueFrames) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d dueFrames) Less(i, j int) bool {
	if d[i].due.Equal(d[j].due) {
		return d[i].order < d[j].order
	}
	return d[i].due.Before(d[j].due)
}
func (d *dueFrames) Push(x any) { *d = append(*d, x.(dueFrame)) }
func (d *dueFrames) Pop() any {
	last := len(*d) - 1
	f := (*d)[last]
	(*d)[last] = dueFrame{} // lets go of the bytes
	*d = (*d)[:last]
	return f
}
