package gate

import (
	"bytes"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/hostd/rtnetlink"
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// carries proves that frames pass both ways.
func (w *wire) carries(t *testing.T, network *end, n int) {
	t.Helper()
	w.send(t, w.guest, guestMAC, n, n)
	w.expect(t, network, n, n)
	// The far end's own queue drops all for a moment after its carrier has come.
	netns.Eventually(t, "the far end is up", func() bool { return netns.Link(t, "network").Attrs().OperState == netlink.OperUp })
	w.send(t, network, peerMAC, n, n)
	w.expect(t, w.guest, n, n)
}

// loses proves that nothing leaves, and that this is what is counted.
func (w *wire) loses(t *testing.T, frames int) {
	t.Helper()
	before := w.Stats()
	w.send(t, w.guest, guestMAC, 1, frames)
	netns.Eventually(t, "frames are counted as lost", func() bool { return w.Stats().Lost == before.Lost+uint64(frames) })
	if s := w.Stats(); s.Released != before.Released {
		t.Fatalf("%d frames count as released, and none has left", s.Released-before.Released)
	}
}

func TestAnUplinkThatGoesDownIsTold(t *testing.T) {
	w, told := newToldWire(t)
	w.carries(t, w.network, 1)
	for range 2 {
		must(t, netlink.LinkSetDown(netns.Link(t, "uplink")))
		told.expect(t, rtnetlink.Down)
		w.loses(t, 10)
		must(t, netlink.LinkSetUp(netns.Link(t, "uplink")))
		told.await(rtnetlink.Up)
		netns.Eventually(t, "it is known to be up", func() bool { return w.Links()[0].Up() })
		w.carries(t, w.network, 2)
	}
}

// TestAnUplinkWithoutACarrierIsTold: the kernel takes frames for one all the same.
func TestAnUplinkWithoutACarrierIsTold(t *testing.T) {
	w, told := newToldWire(t)
	must(t, netlink.LinkSetDown(netns.Link(t, "network")))
	told.expect(t, rtnetlink.NoCarrier)
	w.loses(t, 10)
	must(t, netlink.LinkSetUp(netns.Link(t, "network")))
	told.expect(t, rtnetlink.Up)
	w.carries(t, w.network, 1)
}

func TestAnUplinkMadeAnewIsUsed(t *testing.T) {
	w, told := newToldWire(t)
	w.carries(t, w.network, 1)
	for n := range 3 {
		must(t, netlink.LinkDel(netns.Link(t, "uplink")))
		told.await(rtnetlink.Gone)
		w.loses(t, 10)
		netns.Veth(t, "uplink", "network")
		netns.Eventually(t, "it is known to be back", func() bool { return w.Links()[0].Up() })
		told.await(rtnetlink.Up)
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
	uplink := netns.Link(t, "uplink")
	must(t, netlink.LinkSetMaster(uplink, netns.Link(t, "bridge")))
	must(t, netlink.LinkSetNoMaster(uplink))
	must(t, netlink.LinkSetName(uplink, "renamed"))
	must(t, netlink.LinkSetDown(uplink))
	told.expect(t, rtnetlink.Down) // and nothing before
	must(t, netlink.LinkSetUp(uplink))
	netns.Eventually(t, "it is known to be back", func() bool { return w.Links()[0].Up() })
	w.carries(t, w.network, 1)
}

// TestAFrameBehindTheNewsOfALinkIsTaken: that an interface was down is read from its
// socket before the frames, once, and nothing else says that they are there.
func TestAFrameBehindTheNewsOfALinkIsTaken(t *testing.T) {
	s := newStill(t, ways[2])
	must(t, netlink.LinkSetDown(netns.Link(t, "uplink")))
	must(t, netlink.LinkSetUp(netns.Link(t, "uplink")))
	netns.Eventually(t, "the far end is up", func() bool { return netns.Link(t, "network").Attrs().OperState == netlink.OperUp })
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
