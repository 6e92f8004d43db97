package quiesce

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long QEMU may take to read what was written: microseconds as a rule, and on
// a crowded host until its main loop has its turn; but it never does while the
// guest leaves its port closed, as a guest without an agent does.
const (
	takeLimit       = 250 * time.Millisecond
	takeLimitClosed = 20 * time.Millisecond
	takeLook        = 50 * time.Microsecond
)

// A Stillness is a time without traffic to the guest on the agent channel.
type Stillness struct {
	s      *Session
	conn   net.Conn
	unread int
}

// Still keeps everything from being written to the channel until End, and waits
// until QEMU has taken what was. QEMU puts what arrives there into the guest's
// memory although the guest is stopped: between the copies of device state and
// memory it would tear the epoch. Call it before QEMU is told to stop the guest.
func (s *Session) Still() *Stillness {
	s.channel.Lock()
	s.mu.Lock()
	conn, limit := s.conn, takeLimit
	if !s.open {
		limit = takeLimitClosed
	}
	s.mu.Unlock()
	st := &Stillness{s: s, conn: conn, unread: unread(conn)}
	// What QEMU has left alone once it leaves alone until the guest opens its port.
	for deadline := time.Now().Add(limit); s.written && st.unread > 0 && time.Now().Before(deadline); st.unread = unread(conn) {
		time.Sleep(takeLook)
	}
	s.written = false
	return st
}

// Unbroken says that QEMU has taken nothing from the channel since Still
// returned: what a guest left there whose port was closed, and which it opened
// at the moment of its stop.
func (st *Stillness) Unbroken() bool { return unread(st.conn) == st.unread }

// End lets traffic flow again. Call it once.
func (st *Stillness) End() { st.s.channel.Unlock() }

// unread is how many bytes the other end has not taken yet; 0 where this cannot
// be known.
func unread(conn net.Conn) (n int) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }) // a closed one has none
	return n
}
