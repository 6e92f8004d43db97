package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const snifferBuffer = 32 << 20

// sniffer reads all frames of one cable at the segment's end.
type sniffer struct {
	observer *Observer
	host     string
	port     string
	socket   *packetSocket
	owned    sync.WaitGroup
	buf, oob []byte
	drops    uint64 // guarded by observer.mu
}

func (o *Observer) sniff(host string, c *Cable) (*sniffer, error) {
	socket, err := openPacket(c.segment.space, c.Port, snifferBuffer,
		socketOption{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1})
	if err != nil {
		return nil, err
	}
	s := &sniffer{observer: o, host: host, port: c.segment.Name, socket: socket,
		buf: make([]byte, observedBytes), oob: make([]byte, 128)}
	s.owned.Go(s.run)
	return s, nil
}

func (s *sniffer) run() {
	s.socket.raw.Read(func(fd uintptr) bool {
		for s.read(int(fd)) {
		}
		return false // until the socket is closed
	})
}

// read takes one frame and reports whether there was one. Reading and
// remembering are one step for whoever holds the observer's lock.
func (s *sniffer) read(fd int) bool {
	s.observer.mu.Lock()
	defer s.observer.mu.Unlock()
	// MSG_TRUNC: n is the frame's length, however little of it is wanted.
	n, oobn, _, from, err := unix.Recvmsg(fd, s.buf, s.oob, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
	if err != nil {
		return err == unix.EINTR
	}
	link, ok := from.(*unix.SockaddrLinklayer)
	if !ok || n < 14 {
		return true
	}
	f := Frame{
		Time: kernelTime(s.oob[:oobn]),
		Host: s.host, Port: s.port,
		Sent:   link.Pkttype != unix.PACKET_OUTGOING, // outgoing of the segment goes to the host
		Length: n,
		Head:   s.buf[:min(n, len(s.buf))],
	}
	copy(f.Source[:], f.Head[6:12])
	s.observer.add(f)
	return true
}

// kernelTime is the time stamp of SO_TIMESTAMPNS: a struct timespec.
func kernelTime(oob []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

// empty reports whether everything that came has been remembered.
func (s *sniffer) empty() (empty bool, err error) {
	s.observer.mu.Lock()
	defer s.observer.mu.Unlock()
	control := s.socket.raw.Control(func(fd uintptr) {
		var n int
		n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) // length of the next frame
		empty = n == 0
	})
	if err = errors.Join(control, err); err != nil {
		return false, fmt.Errorf("observe host %s: %w", s.host, err)
	}
	return empty, nil
}

// missed adds up what the kernel dropped: it counts from zero after each look.
func (s *sniffer) missed() (uint64, error) {
	s.observer.mu.Lock()
	defer s.observer.mu.Unlock()
	var stats *unix.TpacketStats
	var err error
	control := s.socket.raw.Control(func(fd uintptr) {
		stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	})
	if err = errors.Join(control, os.NewSyscallError("getsockopt", err)); err != nil {
		return 0, fmt.Errorf("observe host %s: %w", s.host, err)
	}
	s.drops += uint64(stats.Drops)
	return s.drops, nil
}
