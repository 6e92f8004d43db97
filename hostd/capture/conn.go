package capture

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Listener waits for QEMU.
type Listener interface {
	// URI is what QEMU is told to migrate to.
	URI() string
	// Accept may be ended by Close.
	Accept() (Conn, error)
	Close() error
}

// Conn is a connection from QEMU.
type Conn interface {
	io.ReadWriteCloser
	// SetReadDeadline works as that of a net.Conn, on a Read that waits, too.
	SetReadDeadline(time.Time) error
	// Discard drops what is readable now and fails if QEMU has hung up.
	Discard() error
	// HungUp reports that QEMU has closed the connection.
	HungUp() bool
}

// ListenUnix waits on a unix socket, which is made here and removed by Close.
func ListenUnix(path, uri string) (Listener, error) {
	os.Remove(path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return unixListener{l, uri}, nil
}

type unixListener struct {
	*net.UnixListener
	uri string
}

func (l unixListener) URI() string { return l.uri }

func (l unixListener) Accept() (Conn, error) {
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return unixConn{conn}, nil
}

type unixConn struct{ *net.UnixConn }

// discardAtOnce bounds the reads in one go: a QEMU that floods is left, too,
// when the context ends.
const discardAtOnce = 256

func (c unixConn) Discard() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, 1<<16)
	var result error
	err = raw.Control(func(fd uintptr) {
		for range discardAtOnce {
			n, err := unix.Read(int(fd), b)
			if err == unix.EAGAIN {
				return
			}
			if err == nil && n == 0 {
				err = errHungUp
			}
			if err != nil && err != unix.EINTR {
				result = err
				return
			}
		}
	})
	return errors.Join(err, result)
}

func (c unixConn) HungUp() (ended bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ended = n == 0 && err == nil || err != nil && err != unix.EAGAIN && err != unix.EINTR
	})
	return ended || err != nil
}
