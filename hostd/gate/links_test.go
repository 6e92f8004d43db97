package gate

import (
	"bytes"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// told collects what is said of uplinks.
type told chan Link

func (c told) expect(t *testing.T, states ...string) {
	t.Helper()
	for _, want := range states {
		select {
		case got := <-c:
			if got.State != want || got.Port != "in" || got.Name != "uplink" {
				t.Fatalf("told of %+v, want state %q", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("nobody tells that the uplink is %s", want)
		}
	}
}

// await reads over what is told until a state is.
func (c told) await(state string) {
	for u := range c {
		if u.State == state {
			return
		}
	}
}

func newToldWire(t *testing.T) (*wire, told) {
	t.Helper()
	c := make(told, 100)
	w := newWire(t, Options{Changed: func(u Link) { c <- u }})
	w.Pass()
	w.OpenInput()
	return w, c
}

func linkOf(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// carries proves that frames pass both ways.
func (w *wire) carries(t *testing.T, network *socket, n int) {
	t.Helper()
	w.send(t, w.guest, guestMAC, n, n)
	w.expect(t, network, n, n)
	// The far end's own queue drops all for a moment after its carrier has come.
	eventually(t, "the far end is up", func() bool { return linkOf(t, "network").Attrs().OperState == netlink.OperUp })
	w.send(t, network, peerMAC, n, n)
	w.expect(t, w.guest, n, n)
}

// loses proves that nothing leaves, and that this is what is counted.
func (w *wire) loses(t *testing.T, frames int) {
	t.Helper()
	before := w.Stats()
	w.send(t, w.guest, guestMAC, 1, frames)
	eventually(t, "frames are counted as lost", func() bool { return w.Stats().Lost == before.Lost+uint64(frames) })
	if s := w.Stats(); s.Released != before.Released {
		t.Fatalf("%d frames count as released, and none has left", s.Released-before.Released)
	}
}

func TestAnUplinkThatGoesDownIsTold(t *testing.T) {
	w, told := newToldWire(t)
	w.carries(t, w.network, 1)
	for range 2 {
		must(t, netlink.LinkSetDown(linkOf(t, "uplink")))
		told.expect(t, linkDown)
		w.loses(t, 10)
		must(t, netlink.LinkSetUp(linkOf(t, "uplink")))
		told.await(linkUp)
		eventually(t, "it is known to be up", func() bool { return w.Links()[0].Up() })
		w.carries(t, w.network, 2)
	}
}

// TestAnUplinkWithoutACarrierIsTold: the kernel takes frames for one all the same.
func TestAnUplinkWithoutACarrierIsTold(t *testing.T) {
	w, told := newToldWire(t)
	must(t, netlink.LinkSetDown(linkOf(t, "network")))
	told.expect(t, linkNoCarrier)
	w.loses(t, 10)
	must(t, netlink.LinkSetUp(linkOf(t, "network")))
	told.expect(t, linkUp)
	w.carries(t, w.network, 1)
}

func TestAnUplinkMadeAnewIsUsed(t *testing.T) {
	w, told := newToldWire(t)
	w.carries(t, w.network, 1)
	for n := range 3 {
		must(t, netlink.LinkDel(linkOf(t, "uplink")))
		told.await(linkGone)
		w.loses(t, 10)
		makeVeth(t, "uplink", "network")
		eventually(t, "it is known to be back", func() bool { return w.Links()[0].Up() })
		told.await(linkUp)
		network := endpoint(t, "network")
		w.carries(t, network, n)
		network.Close()
	}
}

// TestWhatIsNoEndOfAnUplink: a bridge says that its port is gone, or the uplink has
// another name.
func TestWhatIsNoEndOfAnUplink(t *testing.T) {
	w, told := newToldWire(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "bridge"
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	uplink := linkOf(t, "uplink")
	must(t, netlink.LinkSetMaster(uplink, linkOf(t, "bridge")))
	must(t, netlink.LinkSetNoMaster(uplink))
	must(t, netlink.LinkSetName(uplink, "renamed"))
	must(t, netlink.LinkSetDown(uplink))
	told.expect(t, linkDown) // and nothing before
	must(t, netlink.LinkSetUp(uplink))
	eventually(t, "it is known to be back", func() bool { return w.Links()[0].Up() })
	w.carries(t, w.network, 1)
}

func TestFollower(t *testing.T) {
	const up = unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING
	type step struct {
		m     linkMessage
		bind  bool
		state string
	}
	for name, steps := range map[string][]step{
		"down and up": {{linkMessage{5, "eth", unix.IFF_LOWER_UP, false}, false, linkDown}, {linkMessage{5, "eth", up, false}, false, linkUp}},
		"others":      {{linkMessage{6, "other", 0, false}, false, linkUp}, {linkMessage{6, "other", 0, true}, false, linkUp}},
		"made anew": {{linkMessage{5, "eth", 0, true}, false, linkGone}, {linkMessage{5, "other", up, false}, false, linkGone},
			{linkMessage{9, "eth", unix.IFF_UP, false}, true, linkNoCarrier}, {linkMessage{9, "eth", up, false}, false, linkUp}},
		"its name taken while it is there": {{linkMessage{5, "old", up, false}, false, linkUp}, {linkMessage{6, "eth", 0, false}, false, linkUp}},
	} {
		u := &follower{name: "eth", index: 5, state: linkUp}
		for i, s := range steps {
			if bind := u.hear(s.m); bind != s.bind || u.state != s.state {
				t.Errorf("%s, step %d: %q, bind %v; want %q, %v", name, i, u.state, bind, s.state, s.bind)
			}
		}
	}
}

// TestFollowerAfterLoss: messages were lost, and all interfaces are listed anew.
func TestFollowerAfterLoss(t *testing.T) {
	u := &follower{name: "eth", index: 5, state: linkUp, unsure: true}
	if u.hear(linkMessage{5, "eth", unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING, false}) != true || u.listed() || u.state != linkUp {
		t.Errorf("one with the same index may be another: %+v", u)
	}
	u.unsure = true
	u.hear(linkMessage{6, "eth", unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING, false})
	if !u.listed() || u.state != linkGone {
		t.Errorf("one that is not listed is gone: %+v", u)
	}
	if !u.hear(linkMessage{6, "eth", unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING, false}) || u.state != linkUp || u.listed() {
		t.Errorf("the second listing finds it by name: %+v", u)
	}
}

func FuzzLinks(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{32, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 5, 0, 0, 0, 0x43, 0, 1, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		messages, _, err := parseLinks(b)
		if err != nil || len(messages) > len(b)/unix.SizeofNlMsghdr {
			t.Errorf("%d messages (%v) in %d bytes", len(messages), err, len(b))
		}
	})
}

// TestAFrameBehindTheNewsOfALinkIsTaken: that an interface was down is read from its
// socket before the frames, once, and nothing else says that they are there.
func TestAFrameBehindTheNewsOfALinkIsTaken(t *testing.T) {
	s := newStill(t, ways[2])
	must(t, netlink.LinkSetDown(linkOf(t, "uplink")))
	must(t, netlink.LinkSetUp(linkOf(t, "uplink")))
	eventually(t, "the far end is up", func() bool { return linkOf(t, "network").Attrs().OperState == netlink.OperUp })
	s.pass(t, ways[2], frame(peerMAC, 1), 1)
}

// TestTheEndOfAGateIsNoError: nobody is to look for what went wrong.
func TestTheEndOfAGateIsNoError(t *testing.T) {
	var log bytes.Buffer
	for range 10 { // closed before the first listing, in it, and after it
		w := wireOf(t, Options{Log: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Warn})}, Open)
		w.Close()
	}
	if log.Len() > 0 {
		t.Errorf("the log says %s", log.String())
	}
}
