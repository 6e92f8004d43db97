package netdev

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/rtnetlink"
)

// Watcher listens to what the kernel says of interfaces.
type Watcher struct {
	file   *os.File
	raw    syscall.RawConn
	buffer []byte
}

// OpenWatcher begins to listen.
func OpenWatcher() (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen to what the kernel says of interfaces: %w", err)
	}
	w := &Watcher{file: os.NewFile(uintptr(fd), "netlink:links"), buffer: make([]byte, 1<<16)}
	w.raw, err = w.file.SyscallConn()
	return w, err
}

// Close ends Follow.
func (w *Watcher) Close() { w.file.Close() }

// Followed is an interface whose state is told of.
type Followed struct {
	rtnetlink.Follower
	// Rebind is called where the interface is another by now; an error says that it
	// cannot be used yet.
	Rebind func(index int) error
	// Tell is called with its state after each news, whether or not it is another.
	Tell func(state string)
}

func (f *Followed) hear(m rtnetlink.Message) {
	if f.Hear(m) && f.Rebind(f.Index) != nil {
		f.State = rtnetlink.Gone
	}
}

// Follow goes on until the watcher is closed, or fails.
func (w *Watcher) Follow(all []*Followed) error {
	err := w.list()
	for err == nil {
		var messages []rtnetlink.Message
		var end bool
		messages, end, err = w.next()
		if err == errLost {
			for _, f := range all {
				f.Lost()
			}
			err = w.list()
			continue
		}
		again := false
		for _, f := range all {
			for _, m := range messages {
				f.hear(m)
			}
			if end && f.Listed() {
				again = true
			}
			f.Tell(f.State)
		}
		if again && err == nil {
			err = w.list()
		}
	}
	return err
}

func (w *Watcher) list() error {
	if _, err := w.file.Write(rtnetlink.LinksRequest()); err != nil {
		return fmt.Errorf("ask the kernel for all interfaces: %w", err)
	}
	return nil
}

// next waits for messages. A listing's end is told; errLost says that some were lost.
func (w *Watcher) next() (messages []rtnetlink.Message, end bool, err error) {
	var n int
	var failed error
	if err := w.raw.Read(func(fd uintptr) bool {
		n, failed = unix.Read(int(fd), w.buffer)
		return failed != unix.EAGAIN && failed != unix.EINTR
	}); err != nil {
		return nil, false, err
	}
	if failed == unix.ENOBUFS {
		return nil, false, errLost
	}
	if failed != nil {
		return nil, false, failed
	}
	messages, end = rtnetlink.ParseLinks(w.buffer[:n])
	return messages, end, nil
}

var errLost = errors.New("what the kernel says of interfaces was more than could be read")
