package daemon_test

import (
	"context"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/proto/control"
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
	deleteLink(t, "up-m")
	if err := a.protect("m", "b"); err != nil {
		t.Errorf("no uplink here to compare with: %v", err)
	}
}

func deleteLink(t *testing.T, name string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const goneThere = "the standby's uplink up-m of port in has been gone"

// loseUplinkThere leaves a protected machine with a standby without its uplink.
func loseUplinkThere(t *testing.T) (a, b *host) {
	t.Helper()
	a, b = wiredPair(t, "m")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	if warns(a.machine("m"), "the standby's uplink") {
		t.Fatalf("the machine is %v", a.machine("m"))
	}
	deleteLink(t, "b-up-m")
	a.await("a warning", func() bool { return warns(a.machine("m"), goneThere) })
	return a, b
}

func (h *host) switchOver(name string) error {
	_, err := h.client.Switchover(h.ctx(), &control.MachineRequest{Name: name})
	return err
}

// TestNoSwitchoverToAStandbyWithoutItsUplink, until it is back, or no better here.
func TestNoSwitchoverToAStandbyWithoutItsUplink(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	a, b := loseUplinkThere(t)
	before := a.machine("m")
	mustFail(t, a.switchOver("m"), codes.FailedPrecondition, "uplink up-m of port in on host b has been gone for", "it stays here, protected", "hostd takeover m")
	if m := a.machine("m"); m.Role != "protected" || m.Generation != before.Generation || m.QemuPid != before.QemuPid {
		t.Errorf("the machine is %v, and was %v", m, before)
	}
	makeUplink(t, "b-up-m", "b-net-m")
	a.await("the warning to end", func() bool { return !warns(a.machine("m"), goneThere) })
	if err := a.switchOver("m"); err != nil {
		t.Fatal(err)
	}
	b.await("the machine to be protected again", func() bool { return b.machine("m").Role == "protected" })
	deleteLink(t, "up-m")
	deleteLink(t, "b-up-m")
	for _, warning := range []string{goneThere, "port in: uplink b-up-m has been gone"} {
		b.await("a warning", func() bool { return warns(b.machine("m"), warning) })
	}
	if err := b.switchOver("m"); err != nil {
		t.Errorf("the uplink is gone here, too: %v", err)
	}
}

// TestNoSwitchoverToAStandbyWithoutItsTap, which its QEMU can never get again.
func TestNoSwitchoverToAStandbyWithoutItsTap(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	a, b := wiredPair(t, "m")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	const down, gone = "the standby's tap tap-m of port in has been down", "the standby's tap tap-m of port in has been gone"
	tap, err := netlink.LinkByName("b-tap-m")
	if err == nil {
		err = netlink.LinkSetDown(tap)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.await("a warning", func() bool { return warns(a.machine("m"), down) && warns(a.machine("m"), "mend it on host b") })
	deleteLink(t, "b-tap-m")
	a.await("another", func() bool { return warns(a.machine("m"), gone) && warns(a.machine("m"), "hostd unprotect m") })
	mustFail(t, a.switchOver("m"), codes.FailedPrecondition, "tap tap-m of port in on host b has been gone for", "\"hostd unprotect m\", and protect it again", "it stays here, protected")
	a.mustUnprotect("m")
	b.gone("m")
	makeTap(t, "b-tap-m")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	if err := a.switchOver("m"); err != nil {
		t.Error(err)
	}
}

// TestAPrimaryThatFailsIsTakenOverWithoutAnUplink: nobody else is there.
func TestAPrimaryThatFailsIsTakenOverWithoutAnUplink(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	a, b := loseUplinkThere(t)
	if err := syscall.Kill(int(a.machine("m").QemuPid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.await("b to take over", func() bool { return b.machine("m").Role == "solo" })
}

// TestADaemonThatEndsKeepsWhatItsStandbyCannotCarry: the next one has the machine, and
// protects it again once the uplink is back.
func TestADaemonThatEndsKeepsWhatItsStandbyCannotCarry(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	a, b := loseUplinkThere(t)
	pid := a.machine("m").QemuPid
	a.restart(func() {
		b.gone("m")
		if r := a.record("m"); r.Voice != "a" || r.Standby != "" {
			t.Errorf("the record is %+v", r)
		}
	})
	a.await("the machine to be adopted", func() bool { m := a.machine("m"); return m != nil && m.Role == "solo" && m.QemuPid == pid })
	makeUplink(t, "b-up-m", "b-net-m")
	a.await("the machine to be protected again", func() bool { return a.machine("m").Role == "protected" })
}

// TestADaemonThatEndsWaitsForACarrier that is away for a moment.
func TestADaemonThatEndsWaitsForACarrier(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	a, b := loseUplinkThere(t)
	a.end()
	makeUplink(t, "b-up-m", "b-net-m")
	if err := <-a.served; err != nil {
		t.Fatal(err)
	}
	b.await("the machine to be moved", func() bool { m := b.machine("m"); return m != nil && m.Role == "solo" })
	a.serve()
	a.awaitServing()
}

// TestADaemonWhoseHostGoesDownKeepsNothing: what stays there would be lost.
func TestADaemonWhoseHostGoesDownKeepsNothing(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	a, b := wiredPair(t, "m")
	a.restart(func() {
		a.adjust = func(o *daemon.Options) { o.GoesDown = func(context.Context) bool { return true } }
	})
	a.await("the machine to be adopted", func() bool { m := a.machine("m"); return m != nil && m.Role == "unprotected" })
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	deleteLink(t, "b-up-m")
	a.await("a warning", func() bool { return warns(a.machine("m"), goneThere) })
	a.restart(func() {
		b.await("the machine", func() bool { m := b.machine("m"); return m != nil && m.Role == "solo" })
	})
}
