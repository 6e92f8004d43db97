package netdev

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
)

func openCounts(t testing.TB) *Counts {
	t.Helper()
	c, err := OpenCounts()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// tap is a tap with room for 16 frames, and the far end that QEMU has.
func tap(t *testing.T) (*Tap, *netns.QEMU) {
	t.Helper()
	netns.New(t)
	qemu := netns.Tap(t, "tap")
	near, err := OpenTap("tap", 16, openCounts(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(near.Close)
	return near, qemu
}

func handIn(t *testing.T, near *Tap, from, to int) (n int, err error) {
	t.Helper()
	var frames [][]byte
	for i := from; i <= to; i++ {
		frames = append(frames, frame(i))
	}
	return near.HandIn(frames)
}

func taken(t *testing.T, near *Tap) uint64 {
	t.Helper()
	n, err := near.Taken()
	must(t, err)
	return n
}

// TestWhatQEMUTakesIsKnown: of each frame whether the tap had room for it, and how many
// were read.
func TestWhatQEMUTakesIsKnown(t *testing.T) {
	near, qemu := tap(t)
	before := taken(t, near)
	if n, err := handIn(t, near, 1, 20); n != 16 || err != ErrFull {
		t.Fatalf("%d of 20 frames were taken: %v", n, err)
	}
	if n, err := handIn(t, near, 17, 17); n != 0 || err != ErrFull {
		t.Fatalf("a frame more: %d, %v", n, err)
	}
	for n := 1; n <= 3; n++ {
		if f := qemu.Read(); !bytes.Equal(f, frame(n)) {
			t.Fatalf("QEMU got %q, want frame %d", f, n)
		}
	}
	if n := taken(t, near) - before; n != 3 {
		t.Errorf("QEMU has taken %d frames, want 3", n)
	}
	if n, err := handIn(t, near, 17, 17); n != 1 || err != nil {
		t.Errorf("there is room: %d, %v", n, err)
	}
	if n := len(qemu.ReadAll()); n != 14 {
		t.Errorf("QEMU got %d frames more, want 14", n)
	}
}

// TestAnEmptiedTapTakesFramesAgain, and nothing counts as taken.
func TestAnEmptiedTapTakesFramesAgain(t *testing.T) {
	near, qemu := tap(t)
	before := taken(t, near)
	if n, err := handIn(t, near, 1, 10); n != 10 || err != nil {
		t.Fatalf("%d of 10 frames were taken: %v", n, err)
	}
	must(t, near.Empty())
	if n, err := handIn(t, near, 11, 12); n != 2 || err != nil {
		t.Fatalf("%d of 2 frames were taken: %v", n, err)
	}
	if all := qemu.ReadAll(); len(all) != 2 || !bytes.Equal(all[0], frame(11)) {
		t.Errorf("QEMU got %d frames, from %q on", len(all), all)
	}
	if n := taken(t, near) - before; n != 2 {
		t.Errorf("QEMU has taken %d frames, want 2", n)
	}
}

// TestNobodyElseFillsATap: what others send meets its queue discipline, and what was there
// before is gone.
func TestNobodyElseFillsATap(t *testing.T) {
	near, qemu := tap(t)
	other := open(t, "tap")
	before := taken(t, near)
	for n := range 5 {
		_, _, _, _ = other.Offer([][]byte{frame(n)}) // an error is as good
	}
	if n := len(qemu.ReadAll()); n != 0 || taken(t, near) != before {
		t.Errorf("QEMU got %d frames of others", n)
	}
	_, err := handIn(t, near, 1, 5)
	must(t, err)
	near.Close()
	again, err := OpenTap("tap", 16, openCounts(t))
	must(t, err)
	defer again.Close()
	if n := len(qemu.ReadAll()); n != 0 {
		t.Errorf("QEMU got %d frames of an earlier owner", n)
	}
}

func TestATapThatTakesNothing(t *testing.T) {
	near, qemu := tap(t)
	must(t, netlink.LinkSetDown(netns.Link(t, "tap")))
	if n, err := handIn(t, near, 1, 2); n != 0 || err != ErrDown {
		t.Errorf("down: %d, %v", n, err)
	}
	must(t, netlink.LinkSetUp(netns.Link(t, "tap")))
	bad := frame(1)
	bad[1], bad[4] = 77, 1 // of many segments, and no known kind
	if n, err := near.HandIn([][]byte{bad}); n != 0 || err == nil || errors.Is(err, ErrFull) {
		t.Errorf("a frame that no tap takes: %d, %v", n, err)
	}
	qemu.Write(frame(3))
	expect(t, near.Socket, 3)
	must(t, netlink.LinkDel(netns.Link(t, "tap")))
	if n, err := handIn(t, near, 1, 2); n != 0 || err != ErrGone {
		t.Errorf("gone: %d, %v", n, err)
	}
	if _, err := near.Taken(); err != ErrGone {
		t.Errorf("of one that is gone QEMU has taken: %v", err)
	}
	if err := near.Empty(); err == nil {
		t.Error("one that is gone was emptied")
	}
	near.Close()
	if n, err := handIn(t, near, 1, 1); n != 0 || err == nil || errors.Is(err, ErrGone) {
		t.Errorf("closed: %d, %v", n, err)
	}
}

// TestThatATapWasDownIsNoNews: of one that is up nothing is dropped.
func TestThatATapWasDownIsNoNews(t *testing.T) {
	netns.New(t)
	netns.Veth(t, "tap", "guest")
	near, err := OpenTap("tap", 16, openCounts(t))
	must(t, err)
	defer near.Close()
	must(t, netlink.LinkSetDown(netns.Link(t, "tap")))
	must(t, netlink.LinkSetUp(netns.Link(t, "tap")))
	netns.Eventually(t, "it is up", func() bool { return netns.Link(t, "tap").Attrs().OperState == netlink.OperUp })
	if n, err := near.HandIn([][]byte{frame(1), frame(2)}); n != 2 || err != nil {
		t.Errorf("%d of 2 frames were taken: %v", n, err)
	}
}
