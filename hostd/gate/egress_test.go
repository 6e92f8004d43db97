package gate

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
)

// stuff makes an uplink take a few frames, 1600 bytes and 3000 more that wait in the
// kernel, and then next to none.
func stuff(t *testing.T, name string) (open func()) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	slow := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate: 100, Buffer: 250e6, Limit: 3000}
	if err := netlink.QdiscAdd(slow); err != nil {
		t.Skipf("this kernel cannot shape an interface: %v", err)
	}
	return func() {
		if err := netlink.QdiscDel(slow); err != nil {
			t.Fatal(err)
		}
	}
}

// patient makes frames wait for their uplink for as long as the test takes.
func patient(w *wire) *wire {
	w.out.Lock()
	defer w.out.Unlock()
	w.patience = time.Hour
	return w
}

// untilItWaits has the guest send until its frames wait for the uplink, and
// returns how many it has sent.
func (w *wire) untilItWaits(t *testing.T) (sent int) {
	t.Helper()
	for w.Stats().Waiting < 20 {
		sent++
		w.send(t, w.guest, guestMAC, sent, sent)
		netns.Eventually(t, "the frame is taken from the tap", func() bool {
			s := w.Stats()
			return int(s.Released+s.Lost)+s.Waiting == sent
		})
	}
	return sent
}

// TestAnUplinkThatTakesNothingStopsNobody: to wait for it for each frame would take
// ten seconds.
func TestAnUplinkThatTakesNothingStopsNobody(t *testing.T) {
	w := newWire(t, Options{HeldOutput: 64 << 20})
	stuff(t, "uplink")
	w.Pass()
	const frames = 200
	w.send(t, w.guest, guestMAC, 1, frames)
	began := time.Now()
	w.Cut(1)
	w.Stats()
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("the guest stands still for %v while its frames wait for the uplink", took)
	}
	netns.Eventually(t, "all have left or are lost, and say so", func() bool {
		s := w.Stats()
		return s.Waiting == 0 && s.Released > 0 && s.Lost > 0 && s.Released+s.Lost == frames
	})
}

func TestWhatWaitsForAnUplinkKeepsItsOrder(t *testing.T) {
	w := patient(newWire(t, Options{HeldOutput: 64 << 20}))
	open := stuff(t, "uplink")
	w.Pass()
	sent := w.untilItWaits(t)
	open() // what the kernel holds is lost with the shaping
	w.send(t, w.guest, guestMAC, sent+1, sent+5)
	for last := 0; last < sent+5; {
		netns.Eventually(t, "the next frame", func() bool { return peek(t, w.network) != 0 })
		n := peek(t, w.network)
		if n <= last || last > sent && n != last+1 {
			t.Fatalf("frame %d came after frame %d", n, last)
		}
		last = n
		readFrame(t, w.network, time.Second)
	}
	netns.Eventually(t, "all are counted", func() bool {
		s := w.Stats()
		return s.Lost == 0 && int(s.Released) == sent+5
	})
}

// drained reads the frames up to number last that have arrived by now.
func drained(t *testing.T, s *end, last int) map[int]bool {
	t.Helper()
	got := map[int]bool{}
	for n := 1; n <= last; n++ {
		f := peek(t, s)
		if f == 0 || f > last {
			return got
		}
		readFrame(t, s, time.Second)
		got[f] = true
	}
	return got
}

func TestWhatWaitsForAnUplinkIsBounded(t *testing.T) {
	size := len(frame(guestMAC, 1))
	w := patient(newWire(t, Options{HeldOutput: 5 * size, HeldInput: 1 << 20}))
	stuff(t, "uplink")
	w.Pass()
	w.send(t, w.guest, guestMAC, 1, 300)
	netns.Eventually(t, "what does not fit is lost", func() bool {
		s := w.Stats()
		return s.Waiting == 5 && s.Lost > 0 && int(s.Released+s.Lost)+s.Waiting == 300
	})
}

// TestNothingWaitsBeyondItsTime: an acknowledgement permits output for a time, and
// what waits for the uplink then may be another host's to say.
func TestNothingWaitsBeyondItsTime(t *testing.T) {
	w := patient(newWire(t, Options{HeldOutput: 64 << 20}))
	open := stuff(t, "uplink")
	w.Hold()
	const frames = 200
	w.send(t, w.guest, guestMAC, 1, frames)
	if n := w.Cut(1).Len(); n != frames {
		t.Fatalf("epoch 1 has %d frames, want %d", n, frames)
	}
	if !w.Release(1, time.Now().Add(time.Second)) {
		t.Skip("this machine takes a second to release an epoch")
	}
	netns.Eventually(t, "nothing waits any more", func() bool { return w.Stats().Waiting == 0 })
	s := w.Stats()
	if s.Lost == 0 || s.Released+s.Lost != frames {
		t.Fatalf("%+v", s)
	}
	open()
	drained(t, w.network, int(s.Released))
	w.expectNothing(t, w.network, "uplink")
}

// TestHoldKeepsWhatWaitsForItsUplink: who holds asks whether anything may leave.
func TestHoldKeepsWhatWaitsForItsUplink(t *testing.T) {
	w := patient(newWire(t, Options{HeldOutput: 64 << 20}))
	open := stuff(t, "uplink")
	w.Pass()
	sent := w.untilItWaits(t)
	w.Hold()
	left := int(w.Stats().Released)
	open()
	if !w.sendSome(w.ports[0]) { // as it is tried every millisecond
		t.Error("nothing waits any more")
	}
	drained(t, w.network, left)
	w.expectNothing(t, w.network, "uplink")
	w.Pass()
	w.expect(t, w.network, left+1, sent)
}

// TestNothingLeavesAfterSilence calls everything.
func TestNothingLeavesAfterSilence(t *testing.T) {
	f := Frame{Port: 0, Data: frame(guestMAC, 77)}
	calls := map[string]func(w *wire){
		"Addresses":     func(w *wire) { w.Addresses() },
		"Announce":      func(w *wire) { w.Announce() },
		"AnnounceAgain": func(w *wire) { w.AnnounceAgain() },
		"Arrived":       func(w *wire) { w.Arrived() },
		"AwaitTaken":    func(w *wire) { w.AwaitTaken(t.Context()) },
		"CommitInput":   func(w *wire) { w.CommitInput() },
		"Cut":           func(w *wire) { w.Cut(9) },
		"CutInput":      func(w *wire) { w.CutInput() },
		"DivertInput":   func(w *wire) { w.DivertInput() },
		"DrainInput":    func(w *wire) { w.DrainInput() },
		"DropInput":     func(w *wire) { w.DropInput() },
		"Held":          func(w *wire) { w.Held() },
		"Hold":          func(w *wire) { w.Hold() },
		"HoldInput":     func(w *wire) { w.HoldInput() },
		"Inject":        func(w *wire) { w.Inject(f) },
		"Learn":         func(w *wire) { w.Learn([]Address{{Addr: netip.MustParseAddr("10.0.0.1")}}) },
		"Links":         func(w *wire) { w.Links() },
		"LogBehind":     func(w *wire) { w.LogBehind() },
		"OpenInput":     func(w *wire) { w.OpenInput() },
		"Pass":          func(w *wire) { w.Pass() },
		"PassUntil":     func(w *wire) { w.PassUntil(never()) },
		"Release":       func(w *wire) { w.Release(9, never()) },
		"Resend":        func(w *wire) { w.Resend(f) },
		"Silence":       func(w *wire) { w.Silence() },
		"StartLog":      func(w *wire) { w.StartLog(LogAsync, 1<<20) },
		"Stats":         func(w *wire) { w.Stats() },
		"StopLog":       func(w *wire) { w.StopLog() },
		"Stored":        func(w *wire) { w.Stored(1) },
		"TakeLog":       func(w *wire) { w.TakeLog(func(Frame) bool { return true }) },
		"ToLog":         func(w *wire) { w.ToLog() },
		"Unhold":        func(w *wire) { w.Unhold() },
		"MTU":           func(w *wire) { w.MTU(0) },
		"Close":         func(w *wire) {}, // at the end
	}
	gate := reflect.TypeFor[*Gate]()
	for i := range gate.NumMethod() {
		if calls[gate.Method(i).Name] == nil {
			t.Errorf("%s is not tried", gate.Method(i).Name)
		}
	}
	w := patient(newWire(t, Options{HeldOutput: 64 << 20}))
	open := stuff(t, "uplink")
	w.Pass()
	sent := w.untilItWaits(t)
	w.Cut(1)
	w.send(t, w.guest, guestMAC, sent+1, sent+5)
	w.Cut(2)
	w.Silence()
	if w.Release(2, never()) {
		t.Error("a silenced gate says that it has released an epoch")
	}
	before := w.Stats()
	open()
	drained(t, w.network, sent)
	for name, call := range calls {
		call(w)
		w.expectNothing(t, w.network, "uplink")
		if t.Failed() {
			t.Fatalf("after %s", name)
		}
	}
	w.send(t, w.guest, guestMAC, sent+6, sent+9)
	netns.Eventually(t, "what the guest says is dropped", func() bool { return w.Stats().Dropped >= before.Dropped+4 })
	w.expectNothing(t, w.network, "uplink")
	if s := w.Stats(); s.Released != before.Released || s.Resent != 0 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}
