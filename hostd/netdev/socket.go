package netdev

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/segment"
)

const (
	// MaxFrame is the length of a buffer for any frame: one of many segments, of 64 KiB,
	// with its headers, and room.
	MaxFrame = 1 << 17
	// Batch is how many frames go in one system call.
	Batch        = 32
	socketBuffer = 8 << 20
)

// Socket is a raw packet socket bound to one interface. Frames pass with
// their virtio header, so checksum and segmentation offloads survive.
//
// Nothing is allocated for a frame. One goroutine at a time may receive, any may
// send.
type Socket struct {
	name  string
	index int
	file  *os.File
	raw   syscall.RawConn

	// of Receive
	message unix.Msghdr
	vector  unix.Iovec
	oob     []byte
	reads   uint64 // system calls

	overrun struct {
		sync.Mutex
		total uint64
		stats unix.TpacketStats
		count func(fd uintptr) // adds what the kernel tells, made once
	}

	// of Now
	drain    func(fd int)
	drainNow func(fd uintptr) // calls drain, made once

	sending sync.Mutex
	writes  uint64 // system calls
	// of Offer: what each message sends, what is left of them, what came of it
	outgoing   [Batch]unix.Mmsghdr
	outVectors [Batch]unix.Iovec
	left       []unix.Mmsghdr
	lost       int
	failed     error
	taken      int              // frames that are done with
	full       bool             // the rest may be tried again
	offerLeft  func(fd uintptr) // offerFrames, made once
}

// Index of the interface that the socket was opened on.
func (s *Socket) Index() int { return s.index }

// Reads counts the system calls that read, for who measures; nothing may be read meanwhile.
func (s *Socket) Reads() uint64 { return s.reads }

// Writes counts those that write; nothing may be written meanwhile.
func (s *Socket) Writes() uint64 { return s.writes }

// Open a socket on an interface.
func Open(ifname string) (*Socket, error) {
	s, err := bindSocket(ifname)
	if err != nil {
		return nil, fmt.Errorf("open packet socket on interface %s: %w", ifname, err)
	}
	return s, nil
}

func bindSocket(ifname string) (*Socket, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, err
	}
	// Protocol 0 keeps the socket deaf until it is bound to its interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := configure(fd, ifi.Index); err != nil {
		unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "packet:"+ifname)
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	s := &Socket{name: ifname, index: ifi.Index, file: file, raw: raw, oob: make([]byte, unix.CmsgSpace(20))}
	s.message.Iov, s.message.Iovlen = &s.vector, 1
	s.offerLeft = s.offerFrames
	s.drainNow = func(fd uintptr) { s.drain(int(fd)) }
	s.overrun.count = s.addOverrun
	for i := range s.outgoing {
		s.outgoing[i].Hdr.Iov, s.outgoing[i].Hdr.Iovlen = &s.outVectors[i], 1
	}
	return s, nil
}

func configure(fd, ifindex int) error {
	for _, o := range []struct {
		name       string
		level, opt int
		value      int
		optional   bool
	}{
		{"PACKET_VNET_HDR", unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1, false},
		{"PACKET_IGNORE_OUTGOING", unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1, false},
		{"PACKET_AUXDATA", unix.SOL_PACKET, unix.PACKET_AUXDATA, 1, false},
		{"SO_RCVBUFFORCE", unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer, true},
		{"SO_SNDBUFFORCE", unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer, true},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil && !o.optional {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	return listen(fd, ifindex)
}

// listen binds a socket to an interface.
func listen(fd, ifindex int) error {
	// The guest's MAC is not the interface's: see every frame.
	mreq := unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
		return fmt.Errorf("set promiscuous mode: %w", err)
	}
	all := binary.BigEndian.Uint16([]byte{unix.ETH_P_ALL & 0xff, unix.ETH_P_ALL >> 8})
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex})
}

// Rebind goes on with an interface that was made anew under the old one's name.
func (s *Socket) Rebind(ifindex int) (err error) {
	if closed := s.raw.Control(func(fd uintptr) { err = listen(int(fd), ifindex) }); closed != nil {
		return closed
	}
	if err != nil {
		return fmt.Errorf("bind packet socket to interface %s, made anew: %w", s.name, err)
	}
	return nil
}

// Receive reads one frame, virtio header first, into b. It reports again when
// nothing is readable.
func (s *Socket) Receive(fd int, b []byte) (n int, again bool, err error) {
	n, oobn, errno := s.receiveMessage(fd, b[:len(b)-segment.VLANTag])
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return 0, true, nil
	case unix.ENETDOWN: // reported once when the interface goes down; frames may wait behind it
		return 0, false, nil
	case unix.EINVAL: // SCTP of many segments, or IP fragments yet to be made
		return 0, false, errUntold
	default:
		return 0, false, fmt.Errorf("read from interface %s: %w", s.name, errno)
	}
	if s.message.Flags&unix.MSG_TRUNC != 0 {
		return 0, false, errTooLong
	}
	if tci, tpid, tagged := vlan(s.oob[:oobn]); tagged && n >= segment.VirtioHeader+segment.EthernetHeader {
		n = segment.InsertVLAN(b, n, tci, tpid)
	}
	return n, false, nil
}

// receiveMessage is recvmsg(2) without an address.
func (s *Socket) receiveMessage(fd int, b []byte) (n, oobn int, errno unix.Errno) {
	s.vector.Base = &b[0]
	s.vector.SetLen(len(b))
	s.message.Control = &s.oob[0]
	s.message.SetControllen(len(s.oob))
	s.reads++
	got, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.message)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return 0, 0, errno
	}
	return int(got), int(s.message.Controllen), 0
}

// vlan finds the tag that the kernel stripped (struct tpacket_auxdata,
// linux/if_packet.h).
func vlan(oob []byte) (tci, tpid uint16, tagged bool) {
	const statusOffset, tciOffset, tpidOffset = 0, 16, 18
	header := unix.CmsgLen(0)
	if len(oob) < header+20 {
		return 0, 0, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	if h.Level != unix.SOL_PACKET || h.Type != unix.PACKET_AUXDATA {
		return 0, 0, false
	}
	aux := oob[header:]
	status := binary.NativeEndian.Uint32(aux[statusOffset:])
	if status&unix.TP_STATUS_VLAN_VALID == 0 {
		return 0, 0, false
	}
	tpid = unix.ETH_P_8021Q
	if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = binary.NativeEndian.Uint16(aux[tpidOffset:])
	}
	return binary.NativeEndian.Uint16(aux[tciOffset:]), tpid, true
}

func (s *Socket) prepare(frames [][]byte) {
	for i, f := range frames {
		s.outVectors[i].Base = &f[0]
		s.outVectors[i].SetLen(len(f))
	}
	s.left, s.lost, s.taken, s.failed = s.outgoing[:len(frames)], 0, 0, nil
}

// Offer gives the kernel at most Batch frames, as many as it takes at once.
func (s *Socket) Offer(frames [][]byte) (done, lost int, full bool, err error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.prepare(frames)
	s.full = false
	if err := s.raw.Control(s.offerLeft); err != nil { // closed
		s.taken, s.lost, s.failed = len(frames), len(frames), err
	}
	clear(s.outVectors[:len(frames)]) // hold on to nobody's memory
	if s.failed != nil {
		err = fmt.Errorf("write to interface %s: %w", s.name, s.failed)
	}
	return s.taken, s.lost, s.full, err
}

func (s *Socket) offerFrames(fd uintptr) {
	told := false // that the interface was down once, which is not news
	for len(s.left) > 0 {
		n, errno := s.writeSome(fd)
		switch {
		case errno == 0:
		case errno == unix.EINTR, errno == unix.ENETDOWN && !told:
			told = told || errno == unix.ENETDOWN
			continue
		case isFull(errno):
			s.full = true
			return
		default:
			s.failed, n = errno, 1
			s.lost++
		}
		s.left, s.taken = s.left[n:], s.taken+n
	}
}

// writeSome of what is left: by sendmmsg(2), which costs a lone frame more than
// write(2) does.
func (s *Socket) writeSome(fd uintptr) (n int, errno unix.Errno) {
	s.writes++
	if len(s.left) == 1 {
		v := s.left[0].Hdr.Iov
		_, _, errno = unix.Syscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(v.Base)), uintptr(v.Len))
		return 1, errno
	}
	sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.left[0])), uintptr(len(s.left)), unix.MSG_DONTWAIT, 0, 0)
	return int(sent), errno
}

// isFull says that the same frame may be taken later.
func isFull(errno unix.Errno) bool {
	return errno == unix.EAGAIN || errno == unix.ENOBUFS || errno == unix.EINTR
}

// Overrun counts what found the socket's buffer full.
func (s *Socket) Overrun() uint64 {
	s.overrun.Lock()
	defer s.overrun.Unlock()
	_ = s.raw.Control(s.overrun.count) // an error: closed
	return s.overrun.total
}

// addOverrun: reading the kernel's counter sets it to zero.
func (s *Socket) addOverrun(fd uintptr) {
	size := uint32(unsafe.Sizeof(s.overrun.stats))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_PACKET, unix.PACKET_STATISTICS,
		uintptr(unsafe.Pointer(&s.overrun.stats)), uintptr(unsafe.Pointer(&size)), 0); errno == 0 {
		s.overrun.total += uint64(s.overrun.stats.Drops)
	}
}

// Close ends Await.
func (s *Socket) Close() { s.file.Close() }

// Await drains the socket whenever it is readable.
func (s *Socket) Await(drain func(fd int) error) (failed error) {
	_ = s.raw.Read(func(fd uintptr) bool { // an error: closed
		failed = drain(int(fd))
		return failed != nil
	})
	return failed
}

// Now calls drain with the socket's descriptor.
func (s *Socket) Now(drain func(fd int)) {
	s.drain = drain
	_ = s.raw.Control(s.drainNow) // an error: closed
}

// MTU of the interface now; 0 where it is gone.
func (s *Socket) MTU() int {
	ifi, err := net.InterfaceByIndex(s.boundTo())
	if err != nil {
		return 0
	}
	return ifi.MTU
}

// boundTo is the index of the interface that the kernel has the socket bound to: not a
// name, which a rename changes. It is not any interface's once that is gone.
func (s *Socket) boundTo() (ifindex int) {
	_ = s.raw.Control(func(fd uintptr) { // an error: closed
		address, err := unix.Getsockname(int(fd))
		if l, ok := address.(*unix.SockaddrLinklayer); err == nil && ok {
			ifindex = l.Ifindex
		}
	})
	return ifindex
}
