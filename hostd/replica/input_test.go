package replica

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	wire "github.com/stillpoint-ft/stillpoint/proto/replica"
)

// arrive adds frames of two ports in turn; a frame's text is its number.
func arrive(t *testing.T, l *InputLog, first, last uint64) {
	t.Helper()
	var b wire.OutputBatch
	for n := first; n <= last; n++ {
		if err := b.Frame(uint16(n%2), []byte(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	m, err := wire.DecodeInputLog(append(wire.AppendInputLogHead(nil, first), b.Payload()...))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Add(m); err != nil {
		t.Fatal(err)
	}
}

func (l *InputLog) text() string {
	var all []string
	l.Replay(func(port int, frame []byte) { all = append(all, string(frame)) })
	return strings.Join(all, " ")
}

func expectLog(t *testing.T, l *InputLog, want string) {
	t.Helper()
	if got := l.text(); got != want {
		t.Fatalf("the log holds %q, want %q", got, want)
	}
}

func TestACommitDropsWhatItsEpochContains(t *testing.T) {
	l := NewInputLog(1 << 10)
	arrive(t, l, 1, 6)
	l.Cut(1, wire.InputCut{Upto: 4})
	expectLog(t, l, "1 2 3 4 5 6")
	l.Commit(9) // of another epoch
	expectLog(t, l, "1 2 3 4 5 6")
	arrive(t, l, 7, 8)
	l.Commit(1)
	expectLog(t, l, "5 6 7 8")
	l.Commit(1)
	expectLog(t, l, "5 6 7 8")
}

func TestTailsStay(t *testing.T) {
	l := NewInputLog(1 << 10)
	arrive(t, l, 1, 8)
	l.Cut(1, wire.InputCut{Upto: 7, Tails: []uint32{2, 1}})
	l.Commit(1)
	expectLog(t, l, "4 6 7 8")
	arrive(t, l, 9, 9)
	l.Cut(2, wire.InputCut{Upto: 9})
	l.Commit(2)
	expectLog(t, l, "")
	if l.Last() != 9 {
		t.Fatalf("last is %d", l.Last())
	}
}

func TestFramesThatItHadAreIgnored(t *testing.T) {
	l := NewInputLog(1 << 10)
	arrive(t, l, 1, 4)
	arrive(t, l, 3, 6)
	arrive(t, l, 9, 9) // an asynchronous log had no room for 7 and 8
	expectLog(t, l, "1 2 3 4 5 6 9")
}

func TestALogIsBounded(t *testing.T) {
	l := NewInputLog(4)
	arrive(t, l, 1, 4)
	var b wire.OutputBatch
	b.Frame(0, []byte("5"))
	m, _ := wire.DecodeInputLog(append(wire.AppendInputLogHead(nil, 5), b.Payload()...))
	if err := l.Add(m); !errors.Is(err, ErrBound) {
		t.Fatalf("got %v", err)
	}
	l.Cut(1, wire.InputCut{Upto: 2})
	l.Commit(1)
	arrive(t, l, 5, 6)
	expectLog(t, l, "3 4 5 6")
}

// TestTailsMakeRoom: a primary bounds what no epoch contains, and cannot bound what a
// guest that reads nothing leaves in its tails.
func TestTailsMakeRoom(t *testing.T) {
	l := NewInputLog(1 << 10)
	number := uint64(1)
	for epoch := uint64(1); epoch <= 2000; epoch++ {
		arrive(t, l, number, number+9)
		number += 10
		l.Cut(epoch, wire.InputCut{Upto: number - 1, Tails: []uint32{1 << 20, 1 << 20}})
		l.Commit(epoch)
	}
	if l.Forgotten() == 0 || l.Forgotten()+uint64(l.Len()) != number-1 {
		t.Fatalf("%d frames forgotten and %d kept of %d", l.Forgotten(), l.Len(), number-1)
	}
	if text := l.text(); !strings.HasSuffix(text, fmt.Sprint(number-1)) {
		t.Fatalf("the newest are not kept: %q", text)
	}
}

// TestTailsMakeRoomForWholeEpochsOnly: frames of the open epoch stay, and what is
// forgotten are the oldest.
func TestTailsMakeRoomForWholeEpochsOnly(t *testing.T) {
	l := NewInputLog(8)
	arrive(t, l, 1, 5)
	l.Cut(1, wire.InputCut{Upto: 3, Tails: []uint32{9, 9}})
	l.Commit(1)
	arrive(t, l, 6, 9)
	expectLog(t, l, "4 5 6 7 8 9")
	var b wire.OutputBatch
	b.Frame(0, []byte("abc"))
	m, _ := wire.DecodeInputLog(append(wire.AppendInputLogHead(nil, 10), b.Payload()...))
	if err := l.Add(m); !errors.Is(err, ErrBound) {
		t.Fatalf("got %v", err)
	}
	expectLog(t, l, "4 5 6 7 8 9")
}
