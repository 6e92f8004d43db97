package gate

import (
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/hostd/rtnetlink"
)

func TestMTUOfAnUplink(t *testing.T) {
	w, told := newToldWire(t)
	is := func(want int) {
		t.Helper()
		if got := w.MTU(0); got != want {
			t.Errorf("the MTU is %d, want %d", got, want)
		}
	}
	is(1500)
	must(t, netlink.LinkSetMTU(netns.Link(t, "uplink"), 1400))
	is(1400)
	must(t, netlink.LinkSetDown(netns.Link(t, "uplink")))
	must(t, netlink.LinkSetName(netns.Link(t, "uplink"), "renamed"))
	is(1400)
	must(t, netlink.LinkDel(netns.Link(t, "renamed")))
	told.await(rtnetlink.Gone)
	is(0)
	netns.Veth(t, "uplink", "network")
	told.await(rtnetlink.Up)
	is(1500)
}
