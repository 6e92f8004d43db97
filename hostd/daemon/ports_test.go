package daemon_test

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
)

// wiredPair is a pair of hosts in one network: interfaces of b begin with "b-". It has a
// machine on a, and an uplink of that on each.
func wiredPair(t *testing.T, name string) (a, b *host) {
	t.Helper()
	makeUplink(t, "up-"+name, "net-"+name)
	makeUplink(t, "b-up-"+name, "b-net-"+name)
	a, b = pairOfHosts(t)
	b.adjust = func(o *daemon.Options) {
		o.OpenGate = func(o gate.Options) (*gate.Gate, error) {
			o.Ports = slices.Clone(o.Ports)
			for i := range o.Ports {
				o.Ports[i].Tap, o.Ports[i].Uplink = "b-"+o.Ports[i].Tap, "b-"+o.Ports[i].Uplink
			}
			return gate.Open(o)
		}
	}
	b.restart(func() {})
	makeTap(t, "b-tap-"+name)
	a.startWired(name, "max-epoch: 20ms")
	return a, b
}

// makeTap where a daemon has none made, as it believes that another is its own.
func makeTap(t *testing.T, name string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP}); err != nil {
		t.Fatal(err)
	}
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAStandbyWhoseUplinkHasASmallerMTU is refused before anything is copied: what the
// guest sends would not fit.
func TestAStandbyWhoseUplinkHasASmallerMTU(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	a, b := wiredPair(t, "m")
	pid := a.machine("m").QemuPid
	mtu := func(name string, mtu int) {
		t.Helper()
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetMTU(l, mtu)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	mtu("b-up-m", 1400)
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "port in", "1400", "1500", "give uplink up-m on host b an MTU of at least 1500")
	if m := a.machine("m"); m.Role != "unprotected" || m.QemuPid != pid {
		t.Errorf("the machine is %v", m)
	}
	b.gone("m")
	for _, there := range []int{1500, 9000} {
		mtu("b-up-m", there)
		if err := a.protect("m", "b"); err != nil {
			t.Errorf("1500 here, %d there: %v", there, err)
		}
		a.mustUnprotect("m")
		b.gone("m")
	}
	mtu("b-up-m", 1400)
	l, err := netlink.LinkByName("up-m")
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := a.protect("m", "b"); err != nil {
		t.Errorf("no uplink here to compare with: %v", err)
	}
}
