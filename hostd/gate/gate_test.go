package gate

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
)

var (
	guestMAC = [6]byte{0x52, 0x54, 0, 1, 2, 3}
	peerMAC  = [6]byte{0x52, 0x54, 0, 9, 9, 9}
)

// wire is a gate in a network namespace of its own. The far ends of its two
// interfaces are the guest and the network.
type wire struct {
	*Gate
	guest, network *end
	epoch          uint64
}

func newWire(t *testing.T, o Options) *wire {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	return wireOf(t, o, Open)
}

func wireOf(t testing.TB, o Options, open func(Options) (*Gate, error)) *wire {
	t.Helper()
	netns.New(t)
	for _, pair := range [][2]string{{"tap", "guest"}, {"uplink", "network"}} {
		netns.Veth(t, pair[0], pair[1])
	}
	o.Ports = []Port{{Name: "in", Tap: "tap", Uplink: "uplink", MAC: guestMAC}}
	if o.HeldOutput == 0 {
		o.HeldOutput, o.HeldInput = 1<<20, 1<<20
	}
	if o.Log == nil {
		o.Log = quiet()
	}
	g, err := open(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Gate: g, guest: endpoint(t, "guest"), network: endpoint(t, "network")}
	t.Cleanup(func() {
		g.Close()
		w.guest.Close()
		w.network.Close()
	})
	return w
}

// frame is a numbered frame of an ethertype that nobody else uses.
func frame(from [6]byte, n int) []byte {
	b := make([]byte, vnetHeader, 80)
	b = append(b, peerMAC[:]...)
	b = append(b, from[:]...)
	b = append(b, 0x88, 0xb5)
	return append(b, fmt.Sprintf("frame %04d padded to a decent length........", n)...)
}

func (w *wire) send(t *testing.T, s *end, from [6]byte, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		if err := s.send(frame(from, n)); err != nil {
			t.Fatal(err)
		}
	}
}

// expect reads the frames first to last, in order and nothing between them.
func (w *wire) expect(t *testing.T, s *end, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		got := readFrame(t, s, 5*time.Second)
		if got == nil {
			t.Fatalf("frame %d did not arrive", n)
		}
		if want := fmt.Sprintf("frame %04d", n); !bytes.Contains(got, []byte(want)) {
			t.Fatalf("got %q, want %s", got[24:], want)
		}
	}
}

// expectNothing proves silence by order: a marker sent after all else on the
// same interface is the next frame to arrive.
func (w *wire) expectNothing(t *testing.T, s *end, through string) {
	t.Helper()
	marker := endpoint(t, through)
	defer marker.Close()
	if err := marker.send(frame(peerMAC, 9999)); err != nil {
		t.Fatal(err)
	}
	w.expect(t, s, 9999, 9999)
}

func TestSilentUntilTold(t *testing.T) {
	w := newWire(t, Options{})
	w.send(t, w.guest, guestMAC, 1, 5)
	netns.Eventually(t, "output dropped", func() bool { return w.Stats().Dropped >= 5 })
	w.expectNothing(t, w.network, "uplink")
	w.Pass()
	w.send(t, w.guest, guestMAC, 6, 9)
	w.expect(t, w.network, 6, 9)
}

func TestOutputWaitsForItsEpoch(t *testing.T) {
	w := newWire(t, Options{})
	w.Hold()
	w.send(t, w.guest, guestMAC, 1, 3)
	if n := w.Cut(1).Len(); n != 3 {
		t.Fatalf("epoch 1 has %d frames, want 3: the cut must drain the tap", n)
	}
	w.send(t, w.guest, guestMAC, 4, 6)
	w.Cut(2)
	w.send(t, w.guest, guestMAC, 7, 7)
	w.expectNothing(t, w.network, "uplink")
	if !w.Release(1, never()) {
		t.Fatal("not all left")
	}
	w.expect(t, w.network, 1, 3)
	w.expectNothing(t, w.network, "uplink")
	w.Release(2, never())
	w.expect(t, w.network, 4, 6)
	w.expectNothing(t, w.network, "uplink")
	w.Pass()
	w.expect(t, w.network, 7, 7)
}

func TestFirstCutBeginsToHold(t *testing.T) {
	w := newWire(t, Options{})
	w.Pass()
	w.send(t, w.guest, guestMAC, 1, 2)
	w.expect(t, w.network, 1, 2)
	w.Cut(1)
	w.send(t, w.guest, guestMAC, 3, 3)
	netns.Eventually(t, "output held", func() bool { return w.Stats().HeldFrames == 1 })
	w.expectNothing(t, w.network, "uplink")
}

// TestOutputLeavesAtOnce where the policy is for it, but never before what is held.
func TestOutputLeavesAtOnce(t *testing.T) {
	w := newWire(t, Options{AtOnce: func(f []byte) bool { return bytes.Equal(f[6:12], guestMAC[:]) }})
	w.Pass()
	w.Cut(1)
	w.send(t, w.guest, guestMAC, 1, 1)
	netns.Eventually(t, "what nobody has allowed is held", func() bool { return w.Stats().HeldFrames == 1 })
	w.PassUntil(never())
	w.send(t, w.guest, guestMAC, 2, 2)
	netns.Eventually(t, "what comes after it is held too", func() bool { return w.Stats().HeldFrames == 2 })
	w.expectNothing(t, w.network, "uplink")
	w.Cut(2)
	w.Release(2, never())
	w.expect(t, w.network, 1, 2)
	w.send(t, w.guest, guestMAC, 3, 4)
	w.expect(t, w.network, 3, 4)
	if n := w.Cut(3).Len(); n != 0 {
		t.Fatalf("epoch 3 holds %d frames that have left", n)
	}
	w.send(t, w.guest, peerMAC, 5, 5)
	netns.Eventually(t, "a frame that the policy keeps is held", func() bool { return w.Stats().HeldFrames == 1 })
	w.Cut(4)
	w.Release(4, never())
	w.expect(t, w.network, 5, 5)
	w.PassUntil(time.Now())
	w.send(t, w.guest, guestMAC, 6, 6)
	netns.Eventually(t, "what comes too late is held", func() bool { return w.Stats().HeldFrames == 1 })
	w.Cut(5)
	w.Release(5, never())
	w.expect(t, w.network, 6, 6)
	w.PassUntil(never())
	w.Hold()
	w.send(t, w.guest, guestMAC, 7, 7)
	netns.Eventually(t, "all is held", func() bool { return w.Stats().HeldFrames == 1 })
	w.expectNothing(t, w.network, "uplink")
}

func TestSilenceIsForEver(t *testing.T) {
	w := newWire(t, Options{})
	w.Hold()
	w.send(t, w.guest, guestMAC, 1, 2)
	w.Cut(1)
	w.Silence()
	w.Release(1, never())
	w.Pass()
	w.Hold()
	w.send(t, w.guest, guestMAC, 3, 4)
	netns.Eventually(t, "output dropped", func() bool { return w.Stats().Dropped >= 2 })
	if err := w.Announce(); err != nil {
		t.Fatal(err)
	}
	w.expectNothing(t, w.network, "uplink")
}

func TestArrivingFramesWait(t *testing.T) {
	w := newWire(t, Options{})
	w.send(t, w.network, peerMAC, 1, 2)
	netns.Eventually(t, "input dropped", func() bool { return w.Stats().InputDropped >= 2 })
	w.HoldInput()
	w.send(t, w.network, peerMAC, 3, 6)
	netns.Eventually(t, "input held", func() bool { return w.Stats().InputHeld == 4 })
	w.expectNothing(t, w.guest, "tap")
	w.OpenInput()
	w.send(t, w.network, peerMAC, 7, 8)
	w.expect(t, w.guest, 3, 8)
}

func TestHeldOutputIsBounded(t *testing.T) {
	size := len(frame(guestMAC, 1))
	w := newWire(t, Options{HeldOutput: 3 * size, HeldInput: 2 * size})
	w.Hold()
	w.HoldInput()
	w.send(t, w.guest, guestMAC, 1, 5)
	w.send(t, w.network, peerMAC, 1, 5)
	netns.Eventually(t, "the bounds hold", func() bool {
		s := w.Stats()
		return s.HeldFrames == 3 && s.Dropped == 2 && s.InputHeld == 2 && s.InputDropped == 3
	})
	w.Cut(1)
	w.Release(1, never())
	w.expect(t, w.network, 1, 3)
	if s := w.Stats(); s.HeldBytes != 0 {
		t.Fatalf("%d bytes are still accounted as held", s.HeldBytes)
	}
}

func TestVLANTagSurvives(t *testing.T) {
	w := newWire(t, Options{})
	w.Pass()
	f := frame(guestMAC, 1)
	tagged := append([]byte(nil), f[:vnetHeader+12]...)
	tagged = append(tagged, 0x81, 0x00, 0x20, 0x2a)
	tagged = append(tagged, f[vnetHeader+12:]...)
	if err := w.guest.send(tagged); err != nil {
		t.Fatal(err)
	}
	got := w.network.next(5 * time.Second)
	if !bytes.Equal(got[vnetHeader:], tagged[vnetHeader:]) {
		t.Fatalf("got  %x\nwant %x", got, tagged)
	}
}

func TestLearnsAndAnnouncesAddresses(t *testing.T) {
	w := newWire(t, Options{})
	w.Pass()
	arp := says(t, guestMAC, v4, Tags{}, RouterUnknown)
	na := says(t, guestMAC, v6, Tags{}, NoRouter)
	for _, f := range [][]byte{arp, na} {
		if err := w.guest.send(append(make([]byte, vnetHeader), f...)); err != nil {
			t.Fatal(err)
		}
	}
	netns.Eventually(t, "both addresses learned", func() bool { return len(w.Addresses()) == 2 })
}

// TestAnnouncesAgainOnlyWhatPasses: from the first cut on another host may have
// become the one where the guest is reached.
func TestAnnouncesAgainOnlyWhatPasses(t *testing.T) {
	w := newWire(t, Options{})
	for _, step := range []struct {
		what      string
		do        func()
		announces bool
	}{
		{"silent", func() {}, false},
		{"held", w.Hold, false},
		{"passing", w.Pass, true},
		{"cut", func() { w.Cut(1) }, false},
		{"passing again", w.Pass, true},
		{"over", w.Silence, false},
	} {
		step.do()
		before := w.stats.announced.Load()
		if err := w.AnnounceAgain(); err != nil {
			t.Fatal(err)
		}
		if announces := w.stats.announced.Load() != before; announces != step.announces {
			t.Errorf("%s: announces %v", step.what, announces)
		}
	}
}

// never is a time of day that does not come.
func never() time.Time { return time.Now().Add(time.Hour) }

func TestALateReleaseStops(t *testing.T) {
	w := newWire(t, Options{})
	w.Pass()
	w.send(t, w.guest, guestMAC, 1, 1)
	w.expect(t, w.network, 1, 1)
	w.Hold()
	w.send(t, w.guest, guestMAC, 2, 4)
	netns.Eventually(t, "output held", func() bool { return w.Stats().HeldFrames == 3 })
	w.Cut(1)
	if w.Release(1, time.Now()) {
		t.Fatal("all left after the time was over")
	}
	w.expectNothing(t, w.network, "uplink")
	if !w.Release(1, never()) {
		t.Fatal("not all left")
	}
	w.expect(t, w.network, 2, 4)
	if s := w.Stats(); s.Released != 4 || s.HeldBytes != 0 {
		t.Fatalf("%+v", s)
	}
}

func quiet() hclog.Logger { return hclog.NewNullLogger() }
