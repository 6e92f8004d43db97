package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ensureTap makes the tap unless it exists. It belongs to no bridge, has no
// address and no IPv6: the gate is its only way out. Its queue and its MTU are the
// gate's to set, which opens it once QEMU has.
func ensureTap(name string) (created bool, err error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		link, err = createTap(name)
		created = true
	}
	if err != nil {
		return false, fmt.Errorf("create tap %s: %w", name, err)
	}
	if link.Type() != "tuntap" {
		return false, fmt.Errorf("interface %s is a %s, not a tap: choose another name", name, link.Type())
	}
	if link.Attrs().MasterIndex != 0 {
		return false, fmt.Errorf("tap %s is in a bridge, where frames would pass the daemon by: take it out", name)
	}
	if err := disableIPv6(name); err != nil {
		return created, err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return created, fmt.Errorf("bring tap %s up: %w", name, err)
	}
	return created, nil
}

func createTap(name string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	tap := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
	if err := netlink.LinkAdd(tap); err != nil {
		return nil, err
	}
	return netlink.LinkByName(name)
}

// attachTap opens a tap as QEMU does. Whoever has its descriptor needs no privileges.
func attachTap(name string) (*os.File, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

func removeTap(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

func disableIPv6(name string) error {
	path := filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
	err := os.WriteFile(path, []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // no IPv6 in this kernel
		return fmt.Errorf("disable IPv6 on tap %s: %w", name, err)
	}
	return nil
}

// TapsHaveUSO says whether this kernel's taps can be given UDP segments to cut (since
// Linux 6.2). QEMU takes that off its cards where they cannot (net/tap-linux.c,
// tap_probe_has_uso). It makes a tap of no use to find out; where it cannot, the answer
// is yes.
func TapsHaveUSO() bool {
	f, err := attachTap("spuso%d")
	if err != nil {
		return true
	}
	defer f.Close() // and the tap is gone
	const offloads = unix.TUN_F_CSUM | unix.TUN_F_USO4 | unix.TUN_F_USO6
	return !errors.Is(unix.IoctlSetInt(int(f.Fd()), unix.TUNSETOFFLOAD, offloads), unix.EINVAL)
}
