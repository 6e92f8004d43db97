package gate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
)

// taken is what a log has taken.
type taken struct {
	first  uint64
	frames []string
}

func (w *wire) take(most int) taken {
	var got taken
	got.first, _ = w.TakeLog(func(f Frame) bool {
		if len(got.frames) == most {
			return false
		}
		at := strings.Index(string(f.Data), "frame ")
		got.frames = append(got.frames, string(f.Data)[at:at+10])
		return true
	})
	return got
}

func (got taken) check(t *testing.T, first uint64, from, to int) {
	t.Helper()
	want := taken{first: first}
	for n := from; n <= to; n++ {
		want.frames = append(want.frames, fmt.Sprintf("frame %04d", n))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("the log took %v, want %v", got, want)
	}
}

func (w *wire) waits(t *testing.T, frames int) {
	t.Helper()
	netns.Eventually(t, fmt.Sprintf("%d frames wait", frames), func() bool { return w.Stats().InputHeld == frames })
}

func TestASynchronousLogHandsInWhatIsStored(t *testing.T) {
	w := newWire(t, Options{})
	w.OpenInput()
	w.send(t, w.network, peerMAC, 1, 2)
	w.expect(t, w.guest, 1, 2)
	w.StartLog(LogSync, 1<<20)
	w.send(t, w.network, peerMAC, 3, 7)
	w.waits(t, 5)
	<-w.ToLog()
	w.take(3).check(t, 1, 3, 5)
	w.expectNothing(t, w.guest, "tap")
	w.Stored(2)
	w.expect(t, w.guest, 3, 4)
	w.take(9).check(t, 4, 6, 7)
	w.HoldInput()
	w.Stored(5)
	w.expectNothing(t, w.guest, "tap")
	cut, err := w.CutInput()
	if err != nil || cut.Upto != 2 {
		t.Fatalf("cut %+v, %v", cut, err)
	}
	w.OpenInput()
	w.expect(t, w.guest, 5, 7)
	w.send(t, w.network, peerMAC, 8, 8)
	w.waits(t, 1)
	w.StopLog()
	w.expect(t, w.guest, 8, 8)
}

func TestAnAsynchronousLogComesAfter(t *testing.T) {
	w := newWire(t, Options{})
	w.OpenInput()
	w.StartLog(LogAsync, 1<<20)
	w.send(t, w.network, peerMAC, 1, 4)
	w.expect(t, w.guest, 1, 4)
	w.take(9).check(t, 1, 1, 4)
	if cut, err := w.CutInput(); err != nil || cut.Upto != 4 {
		t.Fatalf("cut %+v, %v", cut, err)
	}
}

func TestAFullLog(t *testing.T) {
	size := len(frame(peerMAC, 1))
	w := newWire(t, Options{HeldOutput: 1 << 20, HeldInput: 3 * size})
	w.OpenInput()
	w.StartLog(LogSync, uint64(2*size))
	w.send(t, w.network, peerMAC, 1, 3)
	netns.Eventually(t, "the third is dropped", func() bool { return w.Stats().InputDropped == 1 })
	w.take(9).check(t, 1, 1, 2)
	w.Stored(2)
	w.expect(t, w.guest, 1, 2)
	w.send(t, w.network, peerMAC, 4, 4) // the far end is full until a commit
	netns.Eventually(t, "the fourth is dropped", func() bool { return w.Stats().InputDropped == 2 })
	w.CutInput()
	w.CommitInput()
	w.send(t, w.network, peerMAC, 5, 5)
	w.waits(t, 1)
	w.take(9).check(t, 3, 5, 5)

	w.StartLog(LogAsync, 0) // an asynchronous log never costs a frame
	w.send(t, w.network, peerMAC, 6, 12)
	w.expect(t, w.guest, 5, 12)
	if s := w.Stats(); s.Unlogged == 0 || s.InputDropped != 2 {
		t.Fatalf("%+v", s)
	}
}

func TestDivertedFramesGoToTheLogAlone(t *testing.T) {
	w := newWire(t, Options{})
	w.OpenInput()
	w.StartLog(LogSync, 1<<20)
	w.send(t, w.network, peerMAC, 1, 4)
	w.waits(t, 4)
	w.take(2).check(t, 1, 1, 2)
	w.DivertInput()
	w.take(9).check(t, 3, 3, 4)
	w.send(t, w.network, peerMAC, 5, 6)
	w.waits(t, 6)
	w.Stored(6)
	w.DrainInput()
	w.take(9).check(t, 5, 5, 6)
	w.DropInput()
	w.send(t, w.network, peerMAC, 7, 7)
	netns.Eventually(t, "what comes later is dropped", func() bool { return w.Stats().InputDropped == 1 })
	w.expectNothing(t, w.guest, "tap")
}

// TestDivertedFramesComeBack: the machine did not go on elsewhere.
func TestDivertedFramesComeBack(t *testing.T) {
	for name, l := range map[string]Log{"off": LogOff, "async": LogAsync, "sync": LogSync} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, Options{})
			w.HoldInput()
			w.StartLog(l, 1<<20)
			w.send(t, w.network, peerMAC, 1, 3)
			w.waits(t, 3)
			w.DivertInput()
			w.take(9).check(t, 1, 1, 3)
			w.send(t, w.network, peerMAC, 4, 5)
			w.waits(t, 5)
			w.StopLog()
			w.OpenInput()
			w.expect(t, w.guest, 1, 5)
		})
	}
}

func TestTheOldestDivertedFramesMakeRoom(t *testing.T) {
	for name, l := range map[string]Log{"async": LogAsync, "sync": LogSync} {
		t.Run(name, func(t *testing.T) {
			size := len(frame(peerMAC, 1))
			w := newWire(t, Options{HeldOutput: 1 << 20, HeldInput: 3 * size})
			w.HoldInput()
			w.StartLog(l, uint64(9*size))
			w.DivertInput()
			w.send(t, w.network, peerMAC, 1, 3)
			w.waits(t, 3)
			w.take(9).check(t, 1, 1, 3)
			w.send(t, w.network, peerMAC, 4, 5)
			w.waits(t, 2)
			w.take(9).check(t, 4, 4, 5)
			w.StopLog()
			w.OpenInput()
			w.expect(t, w.guest, 4, 5)
		})
	}
}

func TestWithoutALogDivertingBeginsOne(t *testing.T) {
	w := newWire(t, Options{})
	w.OpenInput()
	w.send(t, w.network, peerMAC, 1, 1)
	w.expect(t, w.guest, 1, 1)
	w.HoldInput()
	w.send(t, w.network, peerMAC, 2, 3)
	w.waits(t, 2)
	w.DivertInput()
	w.take(9).check(t, 1, 2, 3)
}

func TestFramesOfNoLogAreNotTaken(t *testing.T) {
	w := newWire(t, Options{})
	w.HoldInput()
	w.send(t, w.network, peerMAC, 1, 3)
	w.waits(t, 3)
	w.OpenInput()
	w.expect(t, w.guest, 1, 3)
	if first, n := w.TakeLog(func(Frame) bool { return true }); n != 0 {
		t.Fatalf("%d frames from %d were taken", n, first)
	}
	w.StartLog(LogAsync, 1<<20)
	w.send(t, w.network, peerMAC, 4, 4)
	w.expect(t, w.guest, 4, 4)
	w.take(9).check(t, 1, 4, 4)
}
