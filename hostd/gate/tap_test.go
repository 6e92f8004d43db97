package gate

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/hostd/lane"
)

// realWire is a gate on real taps, in a network namespace of its own.
type realWire struct {
	*Gate
	t       *testing.T
	qemus   []*netns.QEMU
	network []*end
}

func newRealWire(t *testing.T, ports int, o Options) *realWire {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	netns.New(t)
	w := &realWire{t: t}
	for i := range ports {
		w.qemus = append(w.qemus, netns.Tap(t, fmt.Sprint("tap", i)))
		netns.Veth(t, fmt.Sprint("uplink", i), fmt.Sprint("network", i))
		w.network = append(w.network, endpoint(t, fmt.Sprint("network", i)))
	}
	t.Cleanup(func() {
		for _, s := range w.network {
			s.Close()
		}
	})
	w.open(o)
	return w
}

func (w *realWire) open(o Options) {
	w.t.Helper()
	for i := range w.qemus {
		o.Ports = append(o.Ports, Port{Name: fmt.Sprint("port", i), Tap: fmt.Sprint("tap", i), Uplink: fmt.Sprint("uplink", i), MAC: guestMAC})
	}
	if o.HeldOutput == 0 {
		o.HeldOutput = 1 << 20
	}
	if o.HeldInput == 0 {
		o.HeldInput = 64 << 20
	}
	if o.Log == nil {
		o.Log = quiet()
	}
	g, err := Open(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(g.Close)
	w.Gate = g
}

// cut is what a checkpoint does with the input, and the log with it; it returns what
// the log keeps after the commit.
func (w *realWire) cut() (c InputCut) {
	w.t.Helper()
	w.HoldInput()
	for _, n := w.TakeLog(func(Frame) bool { return true }); n > 0; {
		_, n = w.TakeLog(func(Frame) bool { return true })
	}
	c, err := w.CutInput()
	if err != nil {
		w.t.Fatal(err)
	}
	w.CommitInput()
	return c
}

func (w *realWire) send(port, first, last int) {
	w.t.Helper()
	for n := first; n <= last; n++ {
		if err := w.network[port].send(frame(peerMAC, n)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *realWire) delivered(frames uint64) {
	w.t.Helper()
	netns.Eventually(w.t, fmt.Sprint(frames, " frames are handed in"), func() bool { return w.Stats().InputDelivered == frames })
}

// TestWhatQEMUHasTakenIsKnown: bursts longer than any queue, for a QEMU that reads
// nothing and then all. Each frame was read or counted as dropped, and once all
// were read no tail is left.
func TestWhatQEMUHasTakenIsKnown(t *testing.T) {
	w := newRealWire(t, 1, Options{InputDelay: 20 * time.Millisecond})
	w.StartLog(LogAsync, 64<<20)
	w.OpenInput()
	read, sent := 0, 0
	for round := range 4 {
		const burst = 5000
		w.send(0, 1, burst)
		sent += burst
		netns.Eventually(t, "the guest is given up on", func() bool {
			s := w.Stats()
			return s.InputHeld == 0 && s.InputDelivered+s.InputDropped == uint64(sent)
		})
		c, took := w.cut(), len(w.qemus[0].ReadAll())
		read += took
		if int(c.Tails[0]) < took || c.Tails[0] > burst+1 {
			t.Errorf("round %d: a tail of %d frames of which QEMU had read none, then %d", round, c.Tails[0], took)
		}
		w.OpenInput()
		if c := w.cut(); c.Tails[0] != 0 {
			t.Errorf("round %d: a tail of %d frames although QEMU has read all", round, c.Tails[0])
		}
		w.OpenInput()
	}
	s := w.Stats()
	if read == 0 || s.InputDelivered != uint64(read) || s.InputDropped != uint64(sent-read) || s.InputLate != s.InputDropped {
		t.Fatalf("of %d frames QEMU has read %d: %+v", sent, read, s)
	}
}

// TestASlowGuestGetsAll: what a tap has no room for waits and follows in order.
func TestASlowGuestGetsAll(t *testing.T) {
	w := newRealWire(t, 1, Options{InputDelay: time.Hour})
	w.OpenInput()
	const frames = 3000
	w.send(0, 1, frames)
	next := 1
	netns.Eventually(t, "all are read, in order", func() bool {
		for _, f := range w.qemus[0].ReadAll() {
			if !bytes.Contains(f, fmt.Appendf(nil, "frame %04d", next)) {
				t.Fatalf("got %q, want frame %d", f[24:], next)
			}
			next++
		}
		return next > frames
	})
	if s := w.Stats(); s.InputDropped != 0 {
		t.Fatalf("%+v", s)
	}
}

// TestOnlyTheGatesFramesLeaveATap: the kernel's own and those of other programs do not,
// and what they send changes no tail.
func TestOnlyTheGatesFramesLeaveATap(t *testing.T) {
	w := newRealWire(t, 1, Options{})
	w.StartLog(LogAsync, 1<<20)
	w.OpenInput()
	link, err := netlink.LinkByName("tap0")
	if err != nil {
		t.Fatal(err)
	}
	other := endpoint(t, "tap0") // as lldpd or a DHCP client has it
	defer other.Close()
	disturb := func() {
		os.WriteFile("/proc/sys/net/ipv6/conf/tap0/disable_ipv6", []byte("1"), 0)
		os.WriteFile("/proc/sys/net/ipv6/conf/tap0/disable_ipv6", []byte("0"), 0)
		for n := range 50 {
			_ = other.send(frame(peerMAC, 5000+n)) // an error is as good
		}
		address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 8, 1), Mask: net.CIDRMask(24, 32)}}
		if err := netlink.AddrReplace(link, address); err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial("udp4", "10.9.8.2:9"); err == nil { // asks by ARP
			c.Write([]byte("x"))
			c.Close()
		}
	}
	disturb()
	w.send(0, 1, 10)
	w.delivered(10)
	disturb()
	for n := 1; n <= 3; n++ {
		if f := w.qemus[0].Read(); !bytes.Contains(f, fmt.Appendf(nil, "frame %04d", n)) {
			t.Fatalf("QEMU got %q, want frame %d", f, n)
		}
	}
	disturb()
	if c := w.cut(); c.Upto != 10 || c.Tails[0] != 8 {
		t.Errorf("after 3 of 10 frames were read: %+v, want a tail of 8", c)
	}
	if n := len(w.qemus[0].ReadAll()); n != 7 {
		t.Errorf("QEMU got %d frames more, want 7", n)
	}
	disturb()
	if c := w.cut(); c.Tails[0] != 0 {
		t.Errorf("after all were read: %+v", c)
	}
}

// TestWhatWasInATapBeforeIsGone: frames of an earlier daemon are not taken for ours.
func TestWhatWasInATapBeforeIsGone(t *testing.T) {
	w := newRealWire(t, 1, Options{})
	w.OpenInput()
	w.send(0, 1, 20)
	w.delivered(20)
	w.Gate.Close()
	w.open(Options{})
	w.StartLog(LogAsync, 1<<20)
	w.OpenInput()
	w.send(0, 21, 25)
	w.delivered(5)
	for n := 21; n <= 22; n++ {
		if f := w.qemus[0].Read(); !bytes.Contains(f, fmt.Appendf(nil, "frame %04d", n)) {
			t.Fatalf("QEMU got %q, want frame %d", f, n)
		}
	}
	if c := w.cut(); c.Tails[0] != 4 {
		t.Errorf("after 2 of 5 frames were read: %+v, want a tail of 4", c)
	}
}

// TestAPortThatIsNotReadHoldsUpNoOther, and its tail alone has frames.
func TestAPortThatIsNotReadHoldsUpNoOther(t *testing.T) {
	w := newRealWire(t, 2, Options{InputDelay: time.Hour, HeldInput: 400 << 10})
	w.StartLog(LogSync, 64<<20)
	w.OpenInput()
	store := func() {
		for first, n := w.TakeLog(func(Frame) bool { return true }); n > 0; first, n = w.TakeLog(func(Frame) bool { return true }) {
			w.Stored(first + uint64(n) - 1)
		}
	}
	const stuck, rounds, each = 9000, 30, 100
	w.send(0, 1, stuck)
	netns.Eventually(t, "port 0 has all that it may", func() bool {
		store()
		s := w.Stats()
		return s.InputDelivered == lane.FlightMost && s.InputDelivered+s.InputDropped+uint64(s.InputHeld) == stuck && s.InputDropped > 0
	})
	dropped := w.Stats().InputDropped
	for round := range rounds {
		w.send(1, round*each, round*each+each-1)
		got := 0
		netns.Eventually(t, "port 1 is read", func() bool {
			store()
			got += len(w.qemus[1].ReadAll())
			return got == each
		})
	}
	if s := w.Stats(); s.InputDropped != dropped {
		t.Errorf("%d frames of another port were dropped", s.InputDropped-dropped)
	}
	c := w.cut()
	if kept := uint32(stuck - dropped); c.Tails[0] != kept || c.Tails[1] != 0 {
		t.Errorf("%+v, want tails of %d and 0", c, kept)
	}
}

// TestLongFramesPass both ways, whatever MTU the tap had and whenever the uplink's
// changed.
func TestLongFramesPass(t *testing.T) {
	long := func(size int, types ...byte) []byte {
		b := append(make([]byte, vnetHeader), peerMAC[:]...)
		b = append(append(b, guestMAC[:]...), types...)
		return append(b, make([]byte, vnetHeader+size-len(b))...)
	}
	for _, c := range []struct {
		name string
		mtu  int
		f    []byte
	}{
		{"jumbo", 9000, long(9014, 0x88, 0xb5)},
		{"802.1Q", 1500, long(1518, 0x81, 0, 0, 9, 0x88, 0xb5)},
		{"802.1ad", 1504, long(1518, 0x88, 0xa8, 0, 9, 0x88, 0xb5)},
		{"802.1ad and 802.1Q", 1508, long(1522, 0x88, 0xa8, 0, 9, 0x81, 0, 0, 7, 0x88, 0xb5)},
		{"802.1Q twice", 1504, long(1522, 0x81, 0, 0, 9, 0x81, 0, 0, 7, 0x88, 0xb5)},
		{"jumbo with three tags", 9012, long(9026, 0x88, 0xa8, 0, 9, 0x81, 0, 0, 7, 0x81, 0, 0, 8, 0x88, 0xb5)},
		{"the longest", 65535, long(65535, 0x88, 0xb5)},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newRealWire(t, 1, Options{})
			w.Pass()
			w.OpenInput()
			for _, name := range []string{"uplink0", "network0"} {
				link, err := netlink.LinkByName(name)
				if err == nil {
					err = netlink.LinkSetMTU(link, c.mtu)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := w.network[0].send(c.f); err != nil {
				t.Fatal(err)
			}
			w.delivered(1)
			if got := w.qemus[0].Read(); !bytes.Equal(got, c.f) {
				t.Errorf("the guest got %d bytes, want %d", len(got), len(c.f))
			}
			if _, err := unix.Write(w.qemus[0].FD, c.f); err != nil {
				t.Fatal(err)
			}
			netns.Eventually(t, "the frame has left", func() bool { return w.Stats().Released == 1 })
			if s := w.Stats(); s.Lost+s.InputDropped > 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
