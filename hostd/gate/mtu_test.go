package gate

import (
	"testing"

	"github.com/vishvananda/netlink"
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
	must(t, netlink.LinkSetMTU(linkOf(t, "uplink"), 1400))
	is(1400)
	must(t, netlink.LinkSetDown(linkOf(t, "uplink")))
	must(t, netlink.LinkSetName(linkOf(t, "uplink"), "renamed"))
	is(1400)
	must(t, netlink.LinkDel(linkOf(t, "renamed")))
	told.await(linkGone)
	is(0)
	makeVeth(t, "uplink", "network")
	told.await(linkUp)
	is(1500)
}
