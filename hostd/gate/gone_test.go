package gate

import (
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/journal"
	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/hostd/lane"
	"github.com/stillpoint-ft/stillpoint/hostd/netdev"
	"github.com/stillpoint-ft/stillpoint/hostd/rtnetlink"
)

// storeAll is the log's far end, which takes all.
func (w *realWire) storeAll() {
	for first, n := w.TakeLog(func(Frame) bool { return true }); n > 0; first, n = w.TakeLog(func(Frame) bool { return true }) {
		w.Stored(first + uint64(n) - 1)
	}
}

// TestATapThatIsGoneEndsNoCheckpoint, with frames in it and without: nothing is in
// flight, and what arrives for it is dropped and counted. Another port is read as ever.
func TestATapThatIsGoneEndsNoCheckpoint(t *testing.T) {
	for name, unread := range map[string]int{"empty": 0, "not read": 5, "full": lane.FlightMost} {
		t.Run(name, func(t *testing.T) {
			w := newRealWire(t, 2, Options{})
			w.StartLog(LogSync, 64<<20)
			w.OpenInput()
			w.send(0, 1, unread)
			netns.Eventually(t, "the tap has what is not read", func() bool { w.storeAll(); return w.Stats().InputDelivered == uint64(unread) })
			must(t, netlink.LinkDel(netns.Link(t, "tap0")))
			const more = 1000
			w.send(0, 1, more)
			w.send(1, 1, 3)
			read := 0
			netns.Eventually(t, "what arrives for it is dropped", func() bool {
				w.storeAll()
				read += len(w.qemus[1].ReadAll())
				s := w.Stats()
				return s.InputHeld == 0 && s.InputDropped >= more && s.InputDelivered+s.InputDropped == uint64(unread+more+3) && read == 3
			})
			w.HoldInput()
			if err := w.AwaitTaken(t.Context()); err != nil {
				t.Errorf("a tap that is gone is waited for: %v", err)
			}
			w.OpenInput()
			if c := w.cut(); c.Upto != uint64(unread+more+3) || c.Tails[0] != 0 || c.Tails[1] != 0 {
				t.Errorf("%+v, want a cut after frame %d and no tails", c, unread+more+3)
			}
			if s := w.Stats(); s.InputDelivered != 3 || s.InputDropped != uint64(unread+more) {
				t.Errorf("%d frames are said to be delivered, %d to be dropped; want 3 and %d", s.InputDelivered, s.InputDropped, unread+more)
			}
		})
	}
}

// TestATapThatIsGoneKeepsNobodyBusy: neither the processor nor the log, with the guest's
// output cut as ever.
func TestATapThatIsGoneKeepsNobodyBusy(t *testing.T) {
	log := &journal.Journal{}
	w := newRealWire(t, 1, Options{Log: log.Logger()})
	w.StartLog(LogAsync, 64<<20)
	w.Pass()
	w.OpenInput()
	w.send(0, 1, lane.FlightMost+1) // the last waits for room
	w.delivered(lane.FlightMost)
	must(t, netlink.LinkDel(netns.Link(t, "tap0")))
	netns.Eventually(t, "nothing waits", func() bool { return w.Stats().InputHeld == 0 })
	reads := func() uint64 {
		w.out.Lock()
		defer w.out.Unlock()
		return w.ports[0].tap.(*netdev.Tap).Reads()
	}
	was, said := reads(), log.Count("\n")
	for n := range 20 {
		w.send(0, 1, 50)
		w.Cut(uint64(n + 1))
		w.cut()
		w.OpenInput()
		<-time.After(10 * time.Millisecond) // for a loop to show
	}
	if n := reads() - was; n > 100 {
		t.Errorf("the tap was read %d times in 20 checkpoints", n)
	}
	if n := log.Count("\n") - said; n > 5 || said > 10 {
		t.Errorf("the log has %d lines of a tap that goes, and %d of 1000 frames after that:\n%s", said, n, log)
	}
}

// TestWhatIsInATapThatGoesDownIsRead: QEMU reads on, what arrives is dropped and
// counted, and nothing is lost once the tap is up.
func TestWhatIsInATapThatGoesDownIsRead(t *testing.T) {
	log := &journal.Journal{}
	w := newRealWire(t, 1, Options{Log: log.Logger()})
	w.StartLog(LogAsync, 64<<20)
	w.OpenInput()
	for range 3 {
		before := w.Stats()
		w.send(0, 1, 5)
		w.delivered(before.InputDelivered + 5)
		must(t, netlink.LinkSetDown(netns.Link(t, "tap0")))
		w.send(0, 6, 105)
		netns.Eventually(t, "what arrives is dropped", func() bool { return w.Stats().InputDropped == before.InputDropped+100 })
		if n := len(w.qemus[0].ReadAll()); n != 5 {
			t.Errorf("QEMU read %d frames of a tap that is down, want 5", n)
		}
		if c := w.cut(); c.Tails[0] != 0 {
			t.Errorf("%+v, want no tail", c)
		}
		w.OpenInput()
		must(t, netlink.LinkSetUp(netns.Link(t, "tap0")))
		w.send(0, 1, 5)
		w.delivered(before.InputDelivered + 10)
		if n := len(w.qemus[0].ReadAll()); n != 5 {
			t.Errorf("QEMU read %d frames of a tap that is up again, want 5", n)
		}
		if _, err := unix.Write(w.qemus[0].FD, frame(guestMAC, 1)); err != nil {
			t.Errorf("the guest cannot send: %v", err)
		}
	}
	if n := log.Count("\n"); n > 15 {
		t.Errorf("the log has %d lines of 300 frames:\n%s", n, log)
	}
}

// toldOf reads what is told until a link is in a state.
func toldOf(t *testing.T, told <-chan Link, want Link) {
	t.Helper()
	select {
	case l := <-told:
		if l.Port != want.Port || l.Name != want.Name || l.Tap != want.Tap || l.State != want.State {
			t.Errorf("told of %+v, want %+v", l, want)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("nobody tells of %+v", want)
	}
}

// TestATapThatGoesIsTold: that it is down, up, renamed, gone; and of one that is made
// under its name nothing, as QEMU has not got it.
func TestATapThatGoesIsTold(t *testing.T) {
	told := make(chan Link, 100)
	w := newRealWire(t, 1, Options{Changed: func(l Link) { told <- l }})
	is := func(state string) Link { return Link{Port: "port0", Name: "tap0", Tap: true, State: state} }
	tap := netns.Link(t, "tap0")
	for range 2 {
		must(t, netlink.LinkSetDown(tap))
		toldOf(t, told, is(rtnetlink.Down))
		must(t, netlink.LinkSetUp(tap))
		toldOf(t, told, is(rtnetlink.Up))
	}
	must(t, netlink.LinkSetDown(tap))
	toldOf(t, told, is(rtnetlink.Down))
	must(t, netlink.LinkSetName(tap, "renamed"))
	must(t, netlink.LinkSetUp(tap))
	toldOf(t, told, is(rtnetlink.Up))
	must(t, netlink.LinkDel(tap))
	toldOf(t, told, is(rtnetlink.Down))
	toldOf(t, told, is(rtnetlink.Gone))
	netns.Tap(t, "tap0")
	must(t, netlink.LinkDel(netns.Link(t, "uplink0")))
	if l := <-told; l.Tap {
		t.Errorf("of a tap that is not QEMU's is told %+v", l)
	}
	if l := w.Links(); len(l) != 2 || l[0].Tap || l[0].Up() || !l[1].Tap || !l[1].Gone() {
		t.Errorf("%+v", l)
	}
}

// TestATapWhoseQEMUEndsIsNotTold: that has its own way to be known.
func TestATapWhoseQEMUEndsIsNotTold(t *testing.T) {
	told := make(chan Link, 100)
	w := newRealWire(t, 1, Options{Changed: func(l Link) { told <- l }})
	must(t, unix.IoctlSetInt(w.qemus[0].FD, unix.TUNSETPERSIST, 1))
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	must(t, unix.Dup3(int(null.Fd()), w.qemus[0].FD, 0)) // closes the tap's
	netns.Eventually(t, "the tap has no carrier", func() bool { return netns.Link(t, "tap0").Attrs().RawFlags&unix.IFF_LOWER_UP == 0 })
	must(t, netlink.LinkSetDown(netns.Link(t, "tap0")))
	toldOf(t, told, Link{Port: "port0", Name: "tap0", Tap: true, State: rtnetlink.Down})
}
