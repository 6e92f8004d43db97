package quiesce

import (
	"cmp"
	"io"
	"net"
	"sync"
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

// How long a guest that says more than is read may take to fill the channel.
const (
	fullLimit = 20 * time.Millisecond
	fullLook  = time.Millisecond
)

// A Stillness is a time without traffic on the agent channel.
type Stillness struct {
	s       *Session
	conn    net.Conn
	unread  int // by QEMU
	unheard int // bytes that QEMU has written and nobody has read
}

// Still keeps the channel still until End: nothing is written to it, and nothing
// read from it. QEMU goes on with the channel although the guest is stopped: it
// puts what arrives into the guest's memory, and gives buffers back to a guest
// that had filled the channel as soon as there is room. Between the copies of
// device state and memory either would tear the epoch. Call it before QEMU is
// told to stop the guest, and Stopped when it has done so.
func (s *Session) Still() *Stillness {
	s.channel.Lock()
	s.reading.Lock()
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
	st.awaitFull()
	return st
}

// awaitFull returns when a guest that says more than is read has filled the
// channel: there was room in it a moment ago.
func (st *Stillness) awaitFull() {
	deadline := time.Now().Add(fullLimit)
	for n := unheard(st.conn); n > 0 && n != st.unheard && time.Now().Before(deadline); n = unheard(st.conn) {
		st.unheard = n
		time.Sleep(fullLook)
	}
}

// Stopped notes that the guest is stopped.
func (st *Stillness) Stopped() { st.unheard = unheard(st.conn) }

// Unbroken says that QEMU has taken nothing from the channel since Still
// returned, as it does when a guest opens its port at the moment of its stop, and
// has given back no buffer of the guest's since Stopped.
func (st *Stillness) Unbroken() bool {
	return unread(st.conn) == st.unread && unheard(st.conn) == st.unheard
}

// End lets traffic flow again. Call it once.
func (st *Stillness) End() {
	st.s.reading.Unlock()
	st.s.channel.Unlock()
}

// unread is how many bytes the other end has not taken yet; 0 where this cannot
// be known.
func unread(conn net.Conn) int { return waiting(conn, unix.SIOCOUTQ) }

// unheard is how many bytes the other end has written and this one has not read.
func unheard(conn net.Conn) int { return waiting(conn, unix.SIOCINQ) }

func waiting(conn net.Conn, queue uint) (n int) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), queue) }) // a closed one has none
	return n
}

// stillReader reads a channel, but not in a stillness.
type stillReader struct {
	conn    net.Conn
	raw     syscall.RawConn // nil: the channel cannot be asked
	reading *sync.Mutex
}

func newStillReader(conn net.Conn, reading *sync.Mutex) *stillReader {
	r := &stillReader{conn: conn, reading: reading}
	if c, ok := conn.(syscall.Conn); ok {
		r.raw, _ = c.SyscallConn()
	}
	return r
}

func (r *stillReader) Read(b []byte) (n int, err error) {
	if r.raw == nil {
		return r.conn.Read(b)
	}
	var failed error
	err = r.raw.Read(func(fd uintptr) (done bool) {
		r.reading.Lock()
		defer r.reading.Unlock()
		for {
			n, failed = unix.Read(int(fd), b)
			if failed != unix.EINTR {
				return failed != unix.EAGAIN
			}
		}
	})
	if err = cmp.Or(err, failed); err != nil {
		return 0, err
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}
