package daemon_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

const inOwnNetwork = "STILLPOINT_TEST_OWN_NETWORK"

// ownNetwork runs the rest of the test in a process of its own that has a network
// of its own, and reports whether this is that process.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inOwnNetwork) != "" {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run", "^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inOwnNetwork+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skipf("%s", out)
	}
	return false
}

// makeUplink makes an interface whose far end is the network.
func makeUplink(t *testing.T, uplink, network string) netlink.Link {
	t.Helper()
	netns.Veth(t, uplink, network)
	return netns.Link(t, uplink)
}

const wiredMAC = "52:54:00:01:02:03"

// startWired starts a machine with one port.
func (h *host) startWired(name, protection string) {
	h.t.Helper()
	text := specOf(name, "") + fmt.Sprintf("ports:\n- {name: in, tap: tap-%s, uplink: up-%s, mac: %q}\n", name, name, wiredMAC)
	text = string(bytes.Replace([]byte(text), []byte("max-epoch: 20ms"), []byte(protection), 1))
	if _, err := h.client.StartMachine(h.ctx(), &control.StartMachineRequest{Spec: []byte(text), File: name + ".yaml"}); err != nil {
		h.t.Fatal(err)
	}
}

// openTap as QEMU does.
func openTap(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { f.Close() })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	return f
}

// guestFrame is a broadcast frame of the guest, with its virtio header.
func guestFrame(text string, length int) []byte {
	b := make([]byte, 10, 10+14+length)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 1, 2, 3, 0x88, 0xb5)
	return append(b, fmt.Sprintf("%-*s", length, text)...)
}

// network listens on an interface.
type network struct{ fd int }

func listenOn(t *testing.T, name string) network {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	return network{fd}
}

// hears reports that a frame with a text has arrived. It reads over all before it.
func (n network) hears(text string) bool {
	b := make([]byte, 1<<16)
	for {
		size, _, err := unix.Recvfrom(n.fd, b, 0)
		if err != nil {
			return false
		}
		if bytes.Contains(b[:size], []byte(text)) {
			return true
		}
	}
}

// TestAStartIsAnnounced: the switches may know the machine where it ran before, and its
// guest may say nothing until it is asked.
func TestAStartIsAnnounced(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	quietNetwork(t)
	makeUplink(t, "up-m", "net-m")
	a, _ := pairOfHosts(t)
	net := listenOn(t, "net-m")
	a.startWired("m", "max-epoch: 20ms")
	const rarp = "\x52\x54\x00\x01\x02\x03\x80\x35" // from wiredMAC
	for n := range 2 {
		a.await(fmt.Sprint("announcement ", n), func() bool { return net.hears(rarp) })
	}
}

// TestOutputPasses where the policy is for it, while the machine is protected and
// epochs are taken; and is held once the standby is not heard.
func TestOutputPasses(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	makeUplink(t, "up-m", "net-m")
	a, _ := pairOfHosts(t)
	a.startWired("m", "output: pass, checkpoint: periodic, interval: 10s, max-epoch: 20s")
	tap, net := openTap(t, "tap-m"), listenOn(t, "net-m")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		text := fmt.Sprintf("at once %d.", n)
		if _, err := tap.Write(guestFrame(text, 60)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		a.await("the frame to leave", func() bool { return net.hears(text) })
		if took := time.Since(began); took > 8*time.Second {
			t.Fatalf("the frame left after %v, with its epoch", took)
		}
	}
	if m := a.machine("m"); m.OutputPolicy != "pass" || m.Output.HeldFrames != 0 || m.Role != "protected" {
		t.Errorf("%+v", m)
	}
}

// TestOutputIsHeldOnCommit is the same with the other policy.
func TestOutputIsHeldOnCommit(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	makeUplink(t, "up-m", "net-m")
	a, _ := pairOfHosts(t)
	a.startWired("m", "output: hold, checkpoint: periodic, interval: 1m, max-epoch: 1m")
	tap, net := openTap(t, "tap-m"), listenOn(t, "net-m")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := tap.Write(guestFrame("kept", 60)); err != nil {
		t.Fatal(err)
	}
	a.await("the frame to be held", func() bool { return a.machine("m").Output.HeldFrames == 1 })
	if net.hears("kept") {
		t.Error("the frame has left before its epoch was committed")
	}
}

// TestProtectOnAShapedUplink: the guest has sent more than the uplink takes, and
// goes on sending.
func TestProtectOnAShapedUplink(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	l := makeUplink(t, "up-m", "net-m")
	slow := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate: 125000, Buffer: 400000, Limit: 15000}
	if err := netlink.QdiscAdd(slow); err != nil {
		t.Skipf("this kernel cannot shape an interface: %v", err)
	}
	a, _ := pairOfHosts(t)
	a.startWired("m", "max-epoch: 20ms")
	tap := openTap(t, "tap-m")
	pid := a.machine("m").QemuPid
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // some 20 Mbit/s
		defer close(ended)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			for range 16 {
				_, _ = tap.Write(guestFrame("more", 1400))
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	a.await("frames to be lost", func() bool { return len(a.machine("m").Warnings) > 1 })
	err := a.protect("m", "b")
	close(done)
	<-ended
	if err != nil {
		t.Error(err)
	}
	if syscall.Kill(int(pid), 0) != nil {
		t.Error("the machine is lost, by a slow uplink")
	}
}

// TestALostUplinkIsTold: it is made anew under its name, as network management does.
func TestALostUplinkIsTold(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	uplink := makeUplink(t, "up-m", "net-m")
	a, _ := pairOfHosts(t)
	awaitEvent := a.eventsOf("m")
	warned := func() bool {
		return strings.Contains(strings.Join(a.machine("m").Warnings, "\n"), "uplink up-m has been gone")
	}
	a.startWired("m", "max-epoch: 20ms")
	tap := openTap(t, "tap-m")
	if err := netlink.LinkDel(uplink); err != nil {
		t.Fatal(err)
	}
	awaitEvent("uplink-lost")
	a.await("a warning", warned)
	makeUplink(t, "up-m", "net-m")
	awaitEvent("uplink-back")
	if warned() {
		t.Error("the warning stays")
	}
	net := listenOn(t, "net-m")
	if _, err := tap.Write(guestFrame("here again", 60)); err != nil {
		t.Fatal(err)
	}
	a.await("the frame to leave", func() bool { return net.hears("here again") })
}

// eventsOf a machine from now on: what it returns waits for one of a kind.
func (h *host) eventsOf(machine string) (await func(kind string) *control.Event) {
	h.t.Helper()
	events, err := h.client.Events(h.ctx(), &control.EventsRequest{})
	if err != nil {
		h.t.Fatal(err)
	}
	return func(kind string) *control.Event {
		h.t.Helper()
		for {
			e, err := events.Recv()
			if err != nil {
				h.t.Fatalf("no event %s: %v", kind, err)
			}
			if e.Kind == kind && e.Machine == machine {
				return e
			}
		}
	}
}

// TestATapThatIsGoneEndsNoProtection: checkpoints go on, the standby stays, the status
// says what to do, and that works. A tap of the same name is not the one that QEMU has.
func TestATapThatIsGoneEndsNoProtection(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	quietNetwork(t)
	makeUplink(t, "up-m", "net-m")
	openTap(t, "tap-m") // of both hosts
	a, b := pairOfHosts(t)
	a.startWired("m", "max-epoch: 20ms")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	net := listenOn(t, "net-m")
	net.send(t, "not read")
	a.await("a frame in the tap", func() bool { return a.machine("m").Input.Delivered == 1 })
	seen, heard := a.eventsOf("m"), b.eventsOf("m")
	link, err := netlink.LinkByName("tap-m")
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		net.send(t, fmt.Sprintf("lost %d", n))
	}
	const goesOn = `move the machine with "hostd switchover m", or stop and start it`
	gone := func(await func(string) *control.Event) string {
		for { // first it goes down
			if m := await("tap-lost").Message; strings.Contains(m, "port in: tap tap-m is gone: ") {
				return m
			}
		}
	}
	if m := gone(seen); !strings.Contains(m, "the guest's card is cut off here; "+goesOn) {
		t.Errorf("the event says %q", m)
	}
	if m := gone(heard); !strings.Contains(m, "after a takeover the guest's card would be cut off here") {
		t.Errorf("the standby's event says %q", m)
	}
	a.await("what arrives to be counted as dropped", func() bool { return a.machine("m").Input.Dropped == 21 })
	openTap(t, "tap-m")
	was := a.machine("m")
	a.await("checkpoints", func() bool { return a.machine("m").Epoch > was.Epoch+5 })
	m := a.machine("m")
	if m.Role != "protected" || m.Generation != was.Generation {
		t.Errorf("the machine is %s in generation %d, was in %d: %v", m.Role, m.Generation, was.Generation, m.Warnings)
	}
	if !warns(m, "port in: tap tap-m has been gone for ") || !warns(m, goesOn) {
		t.Errorf("the warnings are %q", m.Warnings)
	}
	if m := b.machine("m"); !warns(m, "port in: tap tap-m has been gone for ") {
		t.Errorf("the standby's warnings are %q", m.Warnings)
	}
	if _, err := a.client.Switchover(a.ctx(), &control.MachineRequest{Name: "m"}); err != nil {
		t.Errorf("switch over: %v", err)
	}
	b.await("the machine to run there", func() bool { r := b.machine("m").Role; return r == "solo" || r == "protected" || r == "seeding" })
}

// TestATapThatGoesWithItsMachineIsNoNews: nobody is to look for what went wrong.
func TestATapThatGoesWithItsMachineIsNoNews(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	makeUplink(t, "up-m", "net-m")
	a, _ := pairOfHosts(t)
	const rounds = 3
	for range rounds {
		a.startWired("m", "max-epoch: 20ms")
		if _, err := a.client.StopMachine(a.ctx(), &control.MachineRequest{Name: "m"}); err != nil {
			t.Fatal(err)
		}
		if _, err := netlink.LinkByName("tap-m"); err == nil {
			t.Fatal("the tap is still there")
		}
	}
	a.startWired("m", "max-epoch: 20ms")
	events, err := a.client.Events(a.ctx(), &control.EventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for started := 0; started <= rounds; {
		e, err := events.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch e.Kind {
		case "started":
			started++
		case "tap-lost":
			t.Errorf("an event says %q", e.Message)
		}
	}
}

// TestATapThatIsDownIsTold, and heals when it is up again.
func TestATapThatIsDownIsTold(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	quietNetwork(t)
	makeUplink(t, "up-m", "net-m")
	tap := openTap(t, "tap-m")
	a, _ := pairOfHosts(t)
	a.startWired("m", "max-epoch: 20ms")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	awaitEvent, net := a.eventsOf("m"), listenOn(t, "net-m")
	link, err := netlink.LinkByName("tap-m")
	if err == nil {
		err = netlink.LinkSetDown(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	const raise = `"ip link set tap-m up"`
	if e := awaitEvent("tap-lost"); !strings.Contains(e.Message, "port in: tap tap-m is down") || !strings.Contains(e.Message, raise) {
		t.Errorf("the event says %q", e.Message)
	}
	warned := func() bool { return warns(a.machine("m"), "port in: tap tap-m has been down for ") }
	if !warned() {
		t.Errorf("the warnings are %q", a.machine("m").Warnings)
	}
	was := a.machine("m").Epoch
	a.await("checkpoints", func() bool { return a.machine("m").Epoch > was+5 })
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	awaitEvent("tap-back")
	if warned() {
		t.Error("the warning stays")
	}
	net.send(t, "here again")
	a.await("the frame to be read", func() bool {
		for _, f := range readTap(t, tap) {
			if bytes.Contains(f, []byte("here again")) {
				return true
			}
		}
		return false
	})
}

// TestFramesThatCannotBeCarriedAreWarnedOf in the status of their machine.
func TestFramesThatCannotBeCarriedAreWarnedOf(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	makeUplink(t, "up-m", "net-m")
	a, _ := pairOfHosts(t)
	a.startWired("m", "max-epoch: 20ms")
	tap := openTap(t, "tap-m")
	const told = "frames that stand for many segments were lost"
	if m := a.machine("m"); warns(m, told) {
		t.Fatalf("the machine is %v", m)
	}
	if _, err := tap.Write(leftToFragments(4000)); err != nil {
		t.Fatal(err)
	}
	a.await("a warning", func() bool { return warns(a.machine("m"), "1 "+told) })
}

// leftToFragments is a UDP packet of the guest that is to be cut into IP fragments.
func leftToFragments(payload int) []byte {
	const vnet, ethernet, ip, udp = 10, 14, 20, 8
	b := guestFrame(strings.Repeat("\x00", ip+udp+payload), ip+udp+payload)
	const needsChecksum, fragments = 1, 3
	b[0], b[1] = needsChecksum, fragments
	for at, v := range map[int]uint16{2: ethernet + ip + udp, 4: 1480, 6: ethernet + ip, 8: 6} {
		binary.NativeEndian.PutUint16(b[at:], v)
	}
	binary.BigEndian.PutUint16(b[vnet+12:], 0x0800)
	packet := b[vnet+ethernet:]
	packet[0], packet[8], packet[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	copy(packet[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(packet[ip+4:], uint16(udp+payload))
	return b
}
