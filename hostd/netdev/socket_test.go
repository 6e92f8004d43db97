package netdev

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/hostd/segment"
)

// frame is a numbered frame of an ethertype that nobody else uses.
func frame(n int) []byte {
	b := append(make([]byte, segment.VirtioHeader), 0x52, 0x54, 0, 9, 9, 9, 0x52, 0x54, 0, 1, 2, 3, 0x88, 0xb5)
	return fmt.Appendf(b, "frame %04d padded to a decent length........", n)
}

func open(t *testing.T, name string) *Socket {
	t.Helper()
	s, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// pair is both ends of a wire, in a namespace of its own.
func pair(t *testing.T) (near, far *Socket) {
	t.Helper()
	netns.New(t)
	netns.Veth(t, "near", "far")
	return open(t, "near"), open(t, "far")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, s *Socket, f []byte) {
	t.Helper()
	if done, lost, full, err := s.Offer([][]byte{f}); done != 1 || lost != 0 || full || err != nil {
		t.Fatalf("%d frames of 1 were sent, %d lost, full %v: %v", done, lost, full, err)
	}
}

// receive waits for a frame.
func receive(t *testing.T, s *Socket) (f []byte) {
	t.Helper()
	netns.Eventually(t, "a frame arrives", func() (arrived bool) {
		s.Now(func(fd int) {
			b := make([]byte, MaxFrame)
			n, again, err := s.Receive(fd, b)
			f, arrived = b[:n], !again && n > 0 && err == nil
		})
		return arrived
	})
	return f
}

func expect(t *testing.T, s *Socket, n int) {
	t.Helper()
	if f := receive(t, s); !bytes.Equal(f, frame(n)) {
		t.Fatalf("got %q, want frame %d", f, n)
	}
}

// TestALostFrameTakesNoOtherAlong: the kernel refuses frames longer than the MTU.
func TestALostFrameTakesNoOtherAlong(t *testing.T) {
	near, far := pair(t)
	long := append(frame(2), make([]byte, 4000)...)
	done, lost, full, err := near.Offer([][]byte{frame(1), long, frame(3), long, frame(5)})
	if done != 5 || lost != 2 || full || !errors.Is(err, unix.EMSGSIZE) {
		t.Fatalf("%d frames done, %d lost, full %v (%v); want 5 and 2", done, lost, full, err)
	}
	for _, n := range []int{1, 3, 5} {
		expect(t, far, n)
	}
}

// TestAFullInterfaceIsNotWaitedFor: what it does not take may be tried again.
func TestAFullInterfaceIsNotWaitedFor(t *testing.T) {
	near, far := pair(t)
	slow := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: near.Index(), Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate: 100, Buffer: 250e6, Limit: 3000}
	if err := netlink.QdiscAdd(slow); err != nil {
		t.Skipf("this kernel cannot shape an interface: %v", err)
	}
	for sent := 0; ; sent++ {
		done, lost, full, err := near.Offer([][]byte{frame(sent)})
		if full && done == 0 {
			break
		}
		if done != 1 || lost != 0 || err != nil || sent > 1000 {
			t.Fatalf("frame %d: %d done, %d lost: %v", sent, done, lost, err)
		}
	}
	expect(t, far, 0)
}

func TestATagSurvives(t *testing.T) {
	near, far := pair(t)
	f := frame(1)
	at := segment.VirtioHeader + 12
	tagged := append(append(append([]byte(nil), f[:at]...), 0x81, 0x00, 0x20, 0x2a), f[at:]...)
	send(t, near, tagged)
	if got := receive(t, far); !bytes.Equal(got, tagged) {
		t.Fatalf("got  %x\nwant %x", got, tagged)
	}
}

// TestFramesTooLong: what is longer than any buffer is not passed on cut off.
func TestFramesTooLong(t *testing.T) {
	near, far := pair(t)
	send(t, near, frame(1))
	b := make([]byte, 40)
	netns.Eventually(t, "a frame that does not fit is refused", func() (refused bool) {
		far.Now(func(fd int) {
			_, again, err := far.Receive(fd, b)
			refused = !again && errors.Is(err, ErrUncarried)
		})
		return refused
	})
}

// TestWhatFindsASocketFullIsCounted, also once it is closed.
func TestWhatFindsASocketFullIsCounted(t *testing.T) {
	near, far := pair(t)
	far.Now(func(fd int) { must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)) }) // the least there is
	const frames = 200
	for n := range frames {
		send(t, near, frame(n))
	}
	received := 0
	far.Now(func(fd int) {
		for b := make([]byte, MaxFrame); ; received++ {
			if _, again, err := far.Receive(fd, b); again || err != nil {
				return
			}
		}
	})
	dropped := far.Overrun()
	if dropped == 0 || received+int(dropped) != frames {
		t.Errorf("%d frames of %d received, %d dropped", received, frames, dropped)
	}
	far.Close()
	if n := far.Overrun(); n != dropped {
		t.Errorf("%d were dropped, and %d once it is closed", dropped, n)
	}
}

// TestAwaitEnds with what drain fails with, and by Close without an error.
func TestAwaitEnds(t *testing.T) {
	near, far := pair(t)
	send(t, near, frame(1))
	failed := errors.New("drained")
	if err := far.Await(func(int) error { return failed }); err != failed {
		t.Errorf("got %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- near.Await(func(int) error { return nil }) }()
	near.Close()
	if err := <-ended; err != nil {
		t.Errorf("closed: %v", err)
	}
	if done, lost, _, err := near.Offer([][]byte{frame(2)}); done != 1 || lost != 1 || err == nil {
		t.Errorf("a closed socket has taken %d frames and lost %d: %v", done, lost, err)
	}
}

// TestASystemCallForABatch: one for many frames, and one for a lone frame.
func TestASystemCallForABatch(t *testing.T) {
	near, _ := pair(t)
	var many [][]byte
	for n := range Batch {
		many = append(many, frame(n))
	}
	for _, frames := range [][][]byte{many, many[:1]} {
		before := near.Writes()
		if done, _, _, err := near.Offer(frames); done != len(frames) || err != nil {
			t.Fatalf("%d of %d frames: %v", done, len(frames), err)
		}
		if after := near.Writes(); after != before+1 {
			t.Errorf("%d calls for %d frames", after-before, len(frames))
		}
	}
}

func TestNoSuchInterface(t *testing.T) {
	netns.New(t)
	if _, err := Open("nothing"); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %v", err)
	}
	if _, err := OpenTap("nothing", 16, nil); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %v", err)
	}
}

func TestMTU(t *testing.T) {
	near, _ := pair(t)
	is := func(want int) {
		t.Helper()
		if got := near.MTU(); got != want {
			t.Errorf("the MTU is %d, want %d", got, want)
		}
	}
	is(1500)
	must(t, netlink.LinkSetMTU(netns.Link(t, "near"), 1400))
	is(1400)
	must(t, netlink.LinkSetDown(netns.Link(t, "near")))
	must(t, netlink.LinkSetName(netns.Link(t, "near"), "renamed"))
	is(1400)
	must(t, netlink.LinkDel(netns.Link(t, "renamed")))
	is(0)
	netns.Veth(t, "near", "far")
	must(t, near.Rebind(netns.Link(t, "near").Attrs().Index))
	is(1500)
	send(t, open(t, "far"), frame(7))
	expect(t, near, 7)
	if err := near.Rebind(1 << 30); err == nil || !strings.Contains(err.Error(), "near") {
		t.Errorf("bound to what is not there: %v", err)
	}
}
