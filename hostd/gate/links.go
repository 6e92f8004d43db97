package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Link is what is known of one end of a port's wire.
type Link struct {
	Port, Name string
	Tap        bool // of QEMU; else the uplink
	// State is up, down (by an operator), no carrier, or gone. A tap has a carrier as
	// long as its QEMU lives, and one that is gone stays so: its QEMU cannot take another.
	State string
	Since time.Time // it has been so
}

// Up says that frames can pass it.
func (l Link) Up() bool { return l.State == linkUp }

// Gone says that the interface is no more.
func (l Link) Gone() bool { return l.State == linkGone }

// Kind of link: a tap or an uplink.
func (l Link) Kind() string {
	if l.Tap {
		return "tap"
	}
	return "uplink"
}

// knownLink is a link's state, which who watches it sets and others look at.
type knownLink struct {
	mu   sync.Mutex
	link Link
}

func newKnownLink(port, name string, tap bool) *knownLink {
	return &knownLink{link: Link{Port: port, Name: name, Tap: tap, State: linkUp, Since: time.Now()}}
}

func (k *knownLink) now() Link {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.link
}

// set says whether the state is another than before.
func (k *knownLink) set(state string) (now Link, changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if changed = k.link.State != state; changed {
		k.link.State, k.link.Since = state, time.Now()
	}
	return k.link, changed
}

const (
	linkUp, linkDown, linkNoCarrier, linkGone = "up", "down", "no carrier", "gone"
)

// linkMessage is what the kernel says of an interface.
type linkMessage struct {
	index   int
	name    string
	flags   uint32
	deleted bool
}

func (m linkMessage) state() string {
	switch {
	case m.flags&unix.IFF_UP == 0:
		return linkDown
	case m.flags&unix.IFF_LOWER_UP == 0, m.flags&(unix.IFF_RUNNING|unix.IFF_DORMANT) == 0:
		return linkNoCarrier // or one that has just come: the queue still drops all
	}
	return linkUp
}

// follower follows one interface: by its index as long as it is there, which a
// rename does not end, and an uplink by its name once it is gone.
type follower struct {
	name  string
	index int
	tap   bool
	state string
	// unsure: messages were lost, so the index may be another interface's by now.
	unsure, seen bool
}

// hear takes a message and says whether the socket has to be bound anew.
func (u *follower) hear(m linkMessage) (bind bool) {
	own := u.state != linkGone && m.index == u.index
	switch {
	case m.deleted:
		if own {
			u.state = linkGone
		}
		return false
	case own:
		bind = u.unsure && !u.tap
	case u.state == linkGone && m.name == u.name && !u.tap:
		bind = true
	default:
		return false
	}
	u.index, u.state, u.unsure, u.seen = m.index, m.state(), false, true
	if u.tap && u.state == linkNoCarrier { // its QEMU ends, which others tell
		u.state = linkUp
	}
	return bind
}

// listed says that all interfaces have been told of. One that was not among them is
// gone, which is asked about again by name.
func (u *follower) listed() (again bool) {
	again = !u.seen && u.state != linkGone
	if again {
		u.state = linkGone
	}
	u.seen = false
	return again
}

// links listens to what the kernel says of interfaces.
type links struct {
	file   *os.File
	raw    syscall.RawConn
	buffer []byte
}

func openLinks() (*links, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen to what the kernel says of interfaces: %w", err)
	}
	l := &links{file: os.NewFile(uintptr(fd), "netlink:links"), buffer: make([]byte, 1<<16)}
	l.raw, err = l.file.SyscallConn()
	return l, err
}

func (l *links) close() {
	if l != nil {
		l.file.Close()
	}
}

// list asks the kernel to tell of all interfaces.
func (l *links) list() error {
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	native := binary.NativeEndian
	native.PutUint32(b, uint32(len(b)))
	native.PutUint16(b[4:], unix.RTM_GETLINK)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	_, err := l.file.Write(b)
	return err
}

// next waits for messages. A listing's end is told; errLinksLost says that some
// were lost.
func (l *links) next() (messages []linkMessage, end bool, err error) {
	var n int
	var failed error
	if err := l.raw.Read(func(fd uintptr) bool {
		n, failed = unix.Read(int(fd), l.buffer)
		return failed != unix.EAGAIN && failed != unix.EINTR
	}); err != nil {
		return nil, false, err
	}
	if failed == unix.ENOBUFS {
		return nil, false, errLinksLost
	}
	if failed != nil {
		return nil, false, failed
	}
	return parseLinks(l.buffer[:n])
}

var errLinksLost = errors.New("what the kernel says of interfaces was more than could be read")

// parseLinks reads a datagram. What bridges say of their ports is no interface's.
func parseLinks(b []byte) (messages []linkMessage, end bool, err error) {
	all, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil, false, nil // not the kernel's
	}
	for _, m := range all {
		if m.Header.Type == unix.NLMSG_DONE {
			end = true
		}
		if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK || len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			continue
		}
		link := linkMessage{index: int(int32(binary.NativeEndian.Uint32(m.Data[4:]))), flags: binary.NativeEndian.Uint32(m.Data[8:]),
			deleted: m.Header.Type == unix.RTM_DELLINK}
		for _, a := range attributes {
			if a.Attr.Type == unix.IFLA_IFNAME {
				link.name = strings.TrimRight(string(a.Value), "\x00")
			}
		}
		messages = append(messages, link)
	}
	return messages, end, nil
}

// watched is a link with the way by which it is followed.
type watched struct {
	*follower
	known  *knownLink
	socket *socket // bound anew to an uplink that was made anew
}

func (g *Gate) watchedLinks() (all []watched) {
	for _, p := range g.ports {
		uplink, tap := p.uplink.(*socket), p.tap.(*tapSocket).socket
		all = append(all, watched{&follower{name: p.Uplink, index: uplink.index, state: linkUp}, p.uplinkKnown, uplink},
			watched{&follower{name: p.Tap, index: tap.index, tap: true, state: linkUp}, p.tapKnown, tap})
	}
	return all
}

// watchLinks follows uplinks and taps until the gate is closed.
func (g *Gate) watchLinks() {
	defer g.wg.Done()
	all := g.watchedLinks()
	err := g.links.list()
	for err == nil {
		var messages []linkMessage
		var end bool
		messages, end, err = g.links.next()
		if err == errLinksLost {
			for _, w := range all {
				w.unsure, w.seen = true, false
			}
			err = g.links.list()
			continue
		}
		again := false
		for _, w := range all {
			for _, m := range messages {
				g.heard(w, m)
			}
			if end && w.listed() {
				again = true
			}
			g.tell(w.known, w.state)
		}
		if again && err == nil {
			err = g.links.list()
		}
	}
	select {
	case <-g.closed: // which ends a read or write, too
	default:
		g.log.Error("uplinks and taps are not watched any more", "error", err)
	}
}

func (g *Gate) heard(w watched, m linkMessage) {
	if !w.hear(m) {
		return
	}
	if err := w.socket.rebind(w.index); err != nil {
		g.log.Warn("uplink cannot be used yet", "port", w.known.now().Port, "uplink", w.name, "error", err)
		w.state = linkGone
	}
}

// tell of a link that is in another state than before.
func (g *Gate) tell(k *knownLink, state string) {
	now, changed := k.set(state)
	if !changed {
		return
	}
	if now.Up() {
		g.log.Info(now.Kind()+" is back", "port", now.Port, now.Kind(), now.Name)
	} else {
		g.log.Warn(now.Kind()+" does not carry anything", "port", now.Port, now.Kind(), now.Name, "state", state)
	}
	if g.changed != nil {
		g.changed(now)
	}
}

// Links tells the state of each port's uplink and, after it, of its tap.
func (g *Gate) Links() (all []Link) {
	for _, p := range g.ports {
		all = append(all, p.uplinkKnown.now(), p.tapKnown.now())
	}
	return all
}
