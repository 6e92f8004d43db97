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
	cut       wire.InputCut
	cutEpoch  uint64
	keep      []uint32 // per port, while a cut is committed
	committed uint64   // number up to which the last commit held all but the tails
	forgotten uint64
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
// left out. A log that is full of what no epoch contains breaks the protocol: its
// primary bounds that. It does not bound the tails, so they make room.
func (l *InputLog) Add(m wire.InputLog) error {
	number := m.First
	for f, ok := m.Frames.Next(); ok; f, ok = m.Frames.Next() {
		if number > l.last {
			if !l.fits(f.Data) {
				l.forgetTails(len(f.Data))
			}
			if !l.fits(f.Data) {
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

func (l *InputLog) fits(frame []byte) bool {
	return uint64(len(l.arena)+len(frame)) <= l.limit && uint64(len(l.frames)) <= l.limit/shortest+few
}

// forgetTails drops the oldest frames that are kept only because the guest may not
// have them, until half of the log is free: to make room costs no more than to fill
// it.
func (l *InputLog) forgetTails(more int) {
	over := len(l.arena) + more - int(l.limit/2)
	tooMany := len(l.frames) - int((l.limit/shortest+few)/2)
	n := 0
	for n < len(l.frames) && l.frames[n].number <= l.committed && (over > 0 || tooMany > 0) {
		over -= l.frames[n].to - l.frames[n].from
		tooMany--
		n++
	}
	l.forgotten += uint64(n)
	l.frames = append(l.frames[:0], l.frames[n:]...)
	l.compact()
}

// Forgotten counts the frames of tails that had to make room.
func (l *InputLog) Forgotten() uint64 { return l.forgotten }

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
	l.committed = max(l.committed, min(l.cut.Upto, l.last))
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
