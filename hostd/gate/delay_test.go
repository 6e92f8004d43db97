package gate

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/e2e/offload"
	"github.com/stillpoint-ft/stillpoint/hostd/lane"
)

// TestOnlyASlowGuestAgesFrames: frames that are held, or wait for the log, for longer
// than the bound all arrive.
func TestOnlyASlowGuestAgesFrames(t *testing.T) {
	const delay, frames = 20 * time.Millisecond, 1500
	hold := map[string]func(w *realWire) (free func()){
		"for a checkpoint": func(w *realWire) func() {
			w.HoldInput()
			return w.OpenInput
		},
		"for the log": func(w *realWire) func() {
			w.StartLog(LogSync, 1<<30)
			w.OpenInput()
			return func() {
				for first, n := w.TakeLog(func(Frame) bool { return true }); n > 0; first, n = w.TakeLog(func(Frame) bool { return true }) {
					w.Stored(first + uint64(n) - 1)
				}
			}
		},
	}
	for name, hold := range hold {
		t.Run(name, func(t *testing.T) {
			w := newRealWire(t, 1, Options{InputDelay: delay})
			pass := w.stopTime()
			free := hold(w)
			w.send(0, 1, frames)
			w.waits(frames)
			pass(100 * delay)
			free()
			pass(99 * delay) // what was held for so long may be worked off for as long
			read := 0
			netns.Eventually(t, "all are read", func() bool {
				read += len(w.qemus[0].ReadAll())
				return read+int(w.Stats().InputDropped) == frames
			})
			if s := w.Stats(); s.InputDropped > 0 {
				t.Errorf("%d frames were dropped", s.InputDropped)
			}
			w.StopLog()
			w.send(0, 1, frames)
			w.waits(frames - lane.FlightMost)
			pass(delay + 1)
			w.waits(0)
			if s := w.Stats(); s.InputLate != frames-lane.FlightMost {
				t.Errorf("%d frames were dropped as late", s.InputLate)
			}
		})
	}
}

// stopTime makes the gate's time stand, but for what pass lets pass.
func (w *realWire) stopTime() (pass func(time.Duration)) {
	var now atomic.Int64
	w.in.Lock()
	defer w.in.Unlock()
	w.now = func() time.Duration { return time.Duration(now.Load()) }
	return func(d time.Duration) { now.Add(int64(d)) }
}

func (w *realWire) waits(frames int) {
	w.t.Helper()
	netns.Eventually(w.t, fmt.Sprintf("%d frames wait", frames), func() bool { return w.Stats().InputHeld == frames })
}

// TestAnOverloadedGuestGetsFreshFrames: what a guest reads late is not what came first.
func TestAnOverloadedGuestGetsFreshFrames(t *testing.T) {
	w := newRealWire(t, 1, Options{InputDelay: 50 * time.Millisecond})
	w.OpenInput()
	w.send(0, 1, 2000)
	netns.Eventually(t, "the oldest that wait are dropped", func() bool { s := w.Stats(); return s.InputHeld == 0 && s.InputLate > 0 })
	netns.Eventually(t, "what QEMU does not take from the tap is dropped, too", func() bool {
		w.send(0, 2001, 2100)
		return w.Stats().InputDelivered < lane.FlightMost
	})
	var last []byte
	netns.Eventually(t, "the newest arrives", func() bool {
		w.send(0, 3000, 3000)
		if all := w.qemus[0].ReadAll(); len(all) > 0 {
			if bytes.Contains(all[0], []byte("frame 0001")) {
				t.Fatal("the oldest frame was still there")
			}
			last = all[len(all)-1]
		}
		return bytes.Contains(last, []byte("frame 3000"))
	})
	if s := w.Stats(); s.InputLate != s.InputDropped {
		t.Errorf("%+v", s)
	}
}

// TestInjectedFramesComeFirst, however many they are, and none of them is dropped.
func TestInjectedFramesComeFirst(t *testing.T) {
	const injected, live = 3000, 300
	w := newRealWire(t, 1, Options{})
	w.stopTime()
	w.HoldInput()
	w.send(0, injected+1, injected+live)
	for n := 1; n <= injected; n++ {
		w.Inject(Frame{Data: frame(peerMAC, n)})
	}
	next := 1
	read := func() {
		for _, f := range w.qemus[0].ReadAll() {
			if !bytes.Contains(f, fmt.Appendf(nil, "frame %04d", next)) {
				t.Fatalf("got %q, want frame %d", f[24:], next)
			}
			next++
		}
	}
	netns.Eventually(t, "the injected are read while others are held", func() bool { read(); return next > injected })
	w.OpenInput()
	netns.Eventually(t, "all are read", func() bool { read(); return next > injected+live })
	if s := w.Stats(); s.InputDropped > 0 {
		t.Errorf("%+v", s)
	}
	w.HoldInput() // of a checkpoint
	w.Inject(Frame{Data: frame(peerMAC, next)})
	if n := len(w.qemus[0].ReadAll()); n != 0 {
		t.Errorf("%d frames came while input was held", n)
	}
	w.OpenInput()
	netns.Eventually(t, "the late one is read", func() bool { read(); return next > injected+live+1 })
}

// TestAFrameThatNoTapTakes is dropped, counted and told of once; others pass.
func TestAFrameThatNoTapTakes(t *testing.T) {
	w := newRealWire(t, 1, Options{})
	w.OpenInput()
	bad := frame(peerMAC, 1)
	bad[offload.Kind], bad[offload.Size] = 77, 1
	w.in.Lock()
	n, err := w.ports[0].tap.HandIn([][]byte{bad})
	w.in.Unlock()
	if n != 0 || err == nil || errors.Is(err, ErrFull) {
		t.Fatalf("%d, %v", n, err)
	}
	w.Inject(Frame{Data: bad})
	w.send(0, 2, 2)
	w.delivered(1)
	if s := w.Stats(); s.InputDropped != 1 || len(w.qemus[0].ReadAll()) != 1 || !w.ports[0].toldRefused {
		t.Errorf("%+v", s)
	}
}

// TestWhatWasHeldOnceAges: a long hold gives its frames time once, however often input is
// held for a moment after that.
func TestWhatWasHeldOnceAges(t *testing.T) {
	const delay = 30 * time.Millisecond
	w := newRealWire(t, 1, Options{InputDelay: delay})
	w.HoldInput()
	const frames = lane.FlightMost + 50
	w.send(0, 1, frames)
	netns.Eventually(t, "the frames wait", func() bool { return w.Stats().InputHeld == frames })
	began := time.Now()
	netns.Eventually(t, "they have been held for long", func() bool { return time.Since(began) > 2*delay })
	w.OpenInput()
	netns.Eventually(t, "what the guest does not take is dropped", func() bool {
		w.HoldInput()
		w.OpenInput()
		return w.Stats().InputDropped > 0
	})
}
