package replica

import (
	"fmt"

	wire "github.com/stillpoint-ft/stillpoint/proto/replica"
)

// InputLog keeps the frames that arrived for the machine since the last
// committed epoch: what a takeover hands in again. One goroutine uses it.
type InputLog struct {
	limit  uint64
	arena  []byte
	frames []logged
	last   uint64 // number of the last frame taken
	// cut is what the next commit of its epoch drops.
	cut      wire.InputCut
	cutEpoch uint64
	keep     []uint32 // per port, while a cut is committed
}

type logged struct {
	number   uint64
	port     uint16
	tail     bool // of the cut that is being committed
	from, to int
}

// Frames of an honest primary have at least an Ethernet header; what is kept of a
// frame beside its bytes is so bounded, too.
const (
	shortest = 14
	few      = 64 // frames that may be shorter
)

// NewInputLog keeps at most limit bytes.
func NewInputLog(limit uint64) *InputLog { return &InputLog{limit: limit} }

// Add takes frames. Those of numbers that it had are ignored; numbers may be
// left out. A log that is full breaks the protocol: its primary bounds it.
func (l *InputLog) Add(m wire.InputLog) error {
	number := m.First
	for f, ok := m.Frames.Next(); ok; f, ok = m.Frames.Next() {
		if number > l.last {
			if uint64(len(l.arena)+len(f.Data)) > l.limit || uint64(len(l.frames)) > l.limit/shortest+few {
				return fmt.Errorf("%w: an input log of more than %d bytes", ErrBound, l.limit)
			}
			from := len(l.arena)
			l.arena = append(l.arena, f.Data...)
			l.frames = append(l.frames, logged{number: number, port: f.Port, from: from, to: len(l.arena)})
			l.last = number
		}
		number++
	}
	return nil
}

// Last is the number of the last frame taken, 0 for none.
func (l *InputLog) Last() uint64 { return l.last }

// Len counts the frames that a takeover would hand in.
func (l *InputLog) Len() int { return len(l.frames) }

// Cut says which frames an epoch contains. It counts when that epoch is
// committed.
func (l *InputLog) Cut(epoch uint64, c wire.InputCut) { l.cutEpoch, l.cut = epoch, c }

// Commit drops what the epoch contains.
func (l *InputLog) Commit(epoch uint64) {
	if epoch == 0 || epoch != l.cutEpoch {
		return
	}
	l.cutEpoch = 0
	l.markTails()
	kept := l.frames[:0]
	for _, f := range l.frames {
		if f.number > l.cut.Upto || f.tail {
			f.tail = false
			kept = append(kept, f)
		}
	}
	l.frames = kept
	l.compact()
}

// markTails marks the last frames of each port before the cut, as many as the
// cut says: the guest may not have them.
func (l *InputLog) markTails() {
	l.keep = append(l.keep[:0], l.cut.Tails...)
	for i := len(l.frames) - 1; i >= 0; i-- {
		f := &l.frames[i]
		if f.number <= l.cut.Upto && int(f.port) < len(l.keep) && l.keep[f.port] > 0 {
			l.keep[f.port]--
			f.tail = true
		}
	}
}

// compact moves what is left to the front of the arena.
func (l *InputLog) compact() {
	at := 0
	for i := range l.frames {
		f := &l.frames[i]
		n := copy(l.arena[at:], l.arena[f.from:f.to])
		f.from, f.to = at, at+n
		at += n
	}
	l.arena = l.arena[:at]
}

// Replay gives every frame that is left, in the order in which they arrived.
func (l *InputLog) Replay(hand func(port int, frame []byte)) (frames int) {
	for _, f := range l.frames {
		hand(int(f.port), l.arena[f.from:f.to])
	}
	return len(l.frames)
}
