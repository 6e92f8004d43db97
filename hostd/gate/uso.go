package gate

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// TapsHaveUSO says whether this kernel's taps can be given UDP segments to cut (since
// Linux 6.2). QEMU takes that off its cards where they cannot (net/tap-linux.c,
// tap_probe_has_uso). It makes a tap of no use to find out; where it cannot, the answer
// is yes.
func TapsHaveUSO() bool {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return true
	}
	defer f.Close() // and the tap is gone
	request, err := unix.NewIfreq("spuso%d")
	if err != nil {
		return true
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, request); err != nil {
		return true
	}
	const offloads = unix.TUN_F_CSUM | unix.TUN_F_USO4 | unix.TUN_F_USO6
	return !errors.Is(unix.IoctlSetInt(int(f.Fd()), unix.TUNSETOFFLOAD, offloads), unix.EINVAL)
}
