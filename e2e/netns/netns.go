// Package netns gives a test a network namespace of its own, with interfaces in it.
package netns

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// New moves the test into an empty namespace. Its thread is thrown away with it.
func New(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// Link finds an interface.
func Link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Veth makes a pair of interfaces, on which nobody else speaks, and waits until they are
// up.
func Veth(t testing.TB, a, b string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{a, b} {
		os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
		if err := netlink.LinkSetUp(Link(t, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{a, b} {
		Eventually(t, name+" is up", func() bool { return Link(t, name).Attrs().OperState == netlink.OperUp })
	}
}

// Eventually waits for a condition.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		runtime.Gosched()
	}
}

// QEMU is the far end of a tap, opened as QEMU opens it.
type QEMU struct {
	FD int
	t  testing.TB
}

// Tap makes a tap and sets it up.
func Tap(t testing.TB, name string) *QEMU {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("needs /dev/net/tun: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(Link(t, name)); err != nil {
		t.Fatal(err)
	}
	return &QEMU{fd, t}
}

// Read takes one frame, or nil where there is none.
func (q *QEMU) Read() []byte {
	b := make([]byte, 1<<17)
	n, err := unix.Read(q.FD, b)
	if err == unix.EAGAIN {
		return nil
	}
	if err != nil {
		q.t.Fatal(err)
	}
	return b[:n]
}

// ReadAll takes what is in the tap.
func (q *QEMU) ReadAll() (frames [][]byte) {
	for f := q.Read(); f != nil; f = q.Read() {
		frames = append(frames, f)
	}
	return frames
}

// Write sends a frame as the guest.
func (q *QEMU) Write(f []byte) {
	q.t.Helper()
	if _, err := unix.Write(q.FD, f); err != nil {
		q.t.Fatal(err)
	}
}
