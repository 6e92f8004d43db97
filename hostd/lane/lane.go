// Package lane is the way of one port's frames into a guest: those that wait, those that
// are in the tap and not yet taken, and the time that counts as the guest's. Time is told
// to it; it has no clock.
package lane

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/fifo"
)

// Lane holds the frames that arrived for one port, oldest first: those that wait to be
// handed in, and those that the log has not taken.
type Lane struct {
	kept fifo.Queue[Arrival]
	hand int // the next to be handed in
	log  int // the next for the log
}

// Arrival says of a frame its number, when it came, and what the port's clock showed then.
type Arrival struct {
	Number   uint64
	At, Slow time.Duration
}

// Push adds a frame, which is copied.
func (l *Lane) Push(data []byte, a Arrival) { l.kept.Push(data, a) }

// Waiting counts the frames that have not been handed in.
func (l *Lane) Waiting() int { return l.kept.Len() - l.hand }

// Unlogged counts the frames that the log has not taken.
func (l *Lane) Unlogged() int { return l.kept.Len() - l.log }

// Bytes of the frames that are kept.
func (l *Lane) Bytes() int { return l.kept.Bytes() }

// Ready tells whether a frame waits whose number is at most upto.
func (l *Lane) Ready(upto uint64) bool { return l.Waiting() > 0 && l.Next().Number <= upto }

// Next is the arrival of the first frame that waits, of which there must be one.
func (l *Lane) Next() Arrival { return *l.kept.Tag(l.hand) }

// Batch adds to a batch, as far as it has room, the frames that wait and whose numbers
// are at most upto.
func (l *Lane) Batch(batch [][]byte, upto uint64) [][]byte {
	for i := l.hand; i < l.kept.Len() && l.kept.Tag(i).Number <= upto && len(batch) < cap(batch); i++ {
		batch = append(batch, l.kept.Data(i))
	}
	return batch
}

// WaitingUpto counts the frames that wait and whose numbers are at most upto.
func (l *Lane) WaitingUpto(upto uint64) (n int) {
	for i := l.hand; i < l.kept.Len() && l.kept.Tag(i).Number <= upto; i++ {
		n++
	}
	return n
}

// Hand says that the next n frames, one at least, need not be handed in any more. It
// returns the number of the last.
func (l *Lane) Hand(n int) (number uint64) {
	l.hand += n
	return l.kept.Tag(l.hand - 1).Number
}

// ToLog is the next frame for the log, of which there must be one.
func (l *Lane) ToLog() (number uint64, data []byte) {
	return l.kept.Tag(l.log).Number, l.kept.Data(l.log)
}

// Logged says that the log has taken the next frame.
func (l *Lane) Logged() { l.log++ }

// Ahead is how many frames were handed in and are not logged; negative for those that
// are logged and wait.
func (l *Lane) Ahead() int { return l.hand - l.log }

// LogWhatWaits makes the first frame that waits the next for the log.
func (l *Lane) LogWhatWaits() { l.log = l.hand }

// Renumber gives the next frame for the log a number, and goes on to the one after it.
// It returns the frame's bytes.
func (l *Lane) Renumber(number uint64) (bytes int) {
	l.kept.Tag(l.log).Number = number
	l.log++
	return len(l.kept.Data(l.log - 1))
}

// Trim forgets the frames that were handed in; where there is a log, of these only what
// it has taken.
func (l *Lane) Trim(log bool) {
	if log {
		l.drop(min(l.hand, l.log))
	} else {
		l.drop(l.hand)
	}
}

// Clear forgets all frames.
func (l *Lane) Clear() { l.drop(l.kept.Len()) }

func (l *Lane) drop(n int) {
	l.kept.Drop(n)
	l.hand, l.log = max(0, l.hand-n), max(0, l.log-n)
}
