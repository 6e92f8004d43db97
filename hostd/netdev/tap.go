package netdev

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/segment"
)

// tapMTU is the longest that the kernel allows: what reaches an uplink, with however
// many tags and whatever MTU it has now or later, fits into the tap.
const tapMTU = 65535 - segment.EthernetHeader

// Tap is the near end of a tap that belongs to its owner alone. What that sends goes past the tap's queue discipline, straight to QEMU's queue, and the kernel
// says of each frame whether that took it. What others send meets the discipline,
// which lets nothing through. So the frames that QEMU takes are the owner's, and each
// is counted once.
type Tap struct {
	*Socket
	handle   *netlink.Handle // of the tap's network namespace
	link     netlink.Link
	counts   *Counts
	room     int // for frames in its queue
	messages [Batch]unix.Mmsghdr
	vectors  [Batch]unix.Iovec
	// of HandIn: what is offered, how much of it was taken, why no more was
	offered int
	took    int
	refused unix.Errno
	offer   func(fd uintptr) // offerNow, made once
}

// OpenTap makes a tap its owner's, with a queue for so many frames, and empties it.
func OpenTap(name string, room int, counts *Counts) (_ *Tap, err error) {
	t := &Tap{counts: counts, room: room}
	if t.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open a socket to set up tap %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			t.handle.Close()
		}
	}()
	if err := t.claim(name); err != nil {
		return nil, err
	}
	if t.Socket, err = Open(name); err != nil {
		return nil, err
	}
	if err := t.goPast(); err != nil {
		t.Socket.Close()
		return nil, fmt.Errorf("go past the queue discipline of tap %s: %w", name, err)
	}
	t.offer = t.offerNow
	for i := range t.messages {
		t.messages[i].Hdr.Iov, t.messages[i].Hdr.Iovlen = &t.vectors[i], 1
	}
	return t, nil
}

func (t *Tap) goPast() error {
	var failed error
	err := t.raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	})
	return errors.Join(err, failed)
}

// Close ends Await.
func (t *Tap) Close() {
	t.Socket.Close()
	t.handle.Close()
}

// claim makes a tap its owner's alone: no other's frames pass, any length does, and
// nothing is in it. Interfaces of other kinds, as tests use them, stay as they are.
func (t *Tap) claim(name string) (err error) {
	if t.link, err = t.handle.LinkByName(name); err != nil {
		return fmt.Errorf("find tap %s: %w", name, err)
	}
	if t.link.Type() != "tuntap" {
		return nil
	}
	discipline := &netlink.GenericQdisc{QdiscType: "blackhole", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: t.link.Attrs().Index, Parent: netlink.HANDLE_ROOT}}
	if err := t.handle.QdiscReplace(discipline); err != nil {
		return fmt.Errorf("keep frames of others out of tap %s by the queue discipline blackhole: %w; the kernel needs CONFIG_NET_SCHED", name, err)
	}
	if err := t.handle.LinkSetMTU(t.link, tapMTU); err != nil {
		return fmt.Errorf("set the MTU of tap %s to %d: %w", name, tapMTU, err)
	}
	return t.Empty()
}

// Empty drops what QEMU has not taken: a queue of no length keeps nothing.
func (t *Tap) Empty() error {
	for _, length := range []int{0, t.room} {
		if err := t.handle.LinkSetTxQLen(t.link, length); err != nil {
			return fmt.Errorf("set the queue of tap %s to %d frames: %w", t.link.Attrs().Name, length, err)
		}
	}
	return nil
}

// HandIn gives frames to QEMU's queue as far as that takes them, and never waits.
func (t *Tap) HandIn(frames [][]byte) (n int, err error) {
	t.sending.Lock()
	defer t.sending.Unlock()
	for i, f := range frames {
		t.vectors[i].Base = &f[0]
		t.vectors[i].SetLen(len(f))
	}
	t.offered, t.took, t.refused = len(frames), 0, 0
	if err := t.raw.Control(t.offer); err != nil {
		return 0, fmt.Errorf("write to tap %s: %w", t.name, err)
	}
	clear(t.vectors[:len(frames)]) // hold on to nobody's memory
	switch t.refused {
	case 0:
		return t.took, nil
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return t.took, ErrFull
	case unix.ENETDOWN:
		return t.took, ErrDown
	case unix.ENXIO: // the socket is bound to nothing
		return t.took, ErrGone
	}
	return t.took, fmt.Errorf("write to tap %s: %w", t.name, t.refused)
}

func (t *Tap) offerNow(fd uintptr) {
	told := false // that the tap was down once, which is not news
	for t.took < t.offered {
		t.writes++
		n, errno := t.offerSome(fd, t.messages[t.took:t.offered])
		t.took += n
		switch {
		case errno == 0, errno == unix.EINTR:
		case errno == unix.ENETDOWN && !told:
			told = true
		default:
			t.refused = errno
			return
		}
	}
}

// offerSome: sendmmsg(2) costs a lone frame more than write(2) does.
func (t *Tap) offerSome(fd uintptr, some []unix.Mmsghdr) (n int, errno unix.Errno) {
	if len(some) == 1 {
		v := some[0].Hdr.Iov
		_, _, errno = unix.Syscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(v.Base)), uintptr(v.Len))
		if errno == 0 {
			n = 1
		}
		return n, errno
	}
	sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&some[0])), uintptr(len(some)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sent), 0
}

// Taken asks the kernel how many frames QEMU has taken.
func (t *Tap) Taken() (uint64, error) {
	n, err := t.counts.Sent(t.index)
	if errors.Is(err, unix.ENODEV) {
		return 0, ErrGone
	}
	return n, err
}
