package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Uplink is what is known of a port's uplink.
type Uplink struct {
	Port, Name string
	// State is up, down (by an operator), no carrier, or gone.
	State string
	Since time.Time // it has been so
}

// Up says that frames can leave by it.
func (u Uplink) Up() bool { return u.State == linkUp }

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

// uplinkState follows one uplink: by its index as long as it is there, which a
// rename does not end, and by its name once it is gone.
type uplinkState struct {
	name  string
	index int
	state string
	// unsure: messages were lost, so the index may be another interface's by now.
	unsure, seen bool
}

// hear takes a message and says whether the socket has to be bound anew.
func (u *uplinkState) hear(m linkMessage) (bind bool) {
	own := u.state != linkGone && m.index == u.index
	switch {
	case m.deleted:
		if own {
			u.state = linkGone
		}
		return false
	case own:
		bind = u.unsure
	case u.state == linkGone && m.name == u.name:
		bind = true
	default:
		return false
	}
	u.index, u.state, u.unsure, u.seen = m.index, m.state(), false, true
	return bind
}

// listed says that all interfaces have been told of. One that was not among them is
// gone, which is asked about again by name.
func (u *uplinkState) listed() (again bool) {
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

// watchLinks follows the uplinks until the gate is closed.
func (g *Gate) watchLinks() {
	defer g.wg.Done()
	states := make([]*uplinkState, len(g.ports))
	for i, p := range g.ports {
		states[i] = &uplinkState{name: p.Uplink, index: p.uplink.(*socket).index, state: linkUp}
	}
	err := g.links.list()
	for err == nil {
		var messages []linkMessage
		var end bool
		messages, end, err = g.links.next()
		if err == errLinksLost {
			for _, u := range states {
				u.unsure, u.seen = true, false
			}
			err = g.links.list()
			continue
		}
		again := false
		for i, u := range states {
			for _, m := range messages {
				g.heard(g.ports[i], u, m)
			}
			if end && u.listed() {
				again = true
			}
			g.tell(g.ports[i], u.state)
		}
		if again && err == nil {
			err = g.links.list()
		}
	}
	select {
	case <-g.closed: // which ends a read or write, too
	default:
		g.log.Error("uplinks are not watched any more", "error", err)
	}
}

func (g *Gate) heard(p *port, u *uplinkState, m linkMessage) {
	if !u.hear(m) {
		return
	}
	if err := p.uplink.(*socket).rebind(u.index); err != nil {
		g.log.Warn("uplink cannot be used yet", "port", p.Name, "uplink", p.Uplink, "error", err)
		u.state = linkGone
	}
}

// tell of an uplink that is in another state than before.
func (g *Gate) tell(p *port, state string) {
	p.state.Lock()
	known := p.state.Uplink
	if known.State != state {
		p.state.State, p.state.Since = state, time.Now()
	}
	now := p.state.Uplink
	p.state.Unlock()
	if known.State == state || known.Up() == now.Up() && now.Up() {
		return
	}
	if now.Up() {
		g.log.Info("uplink is back", "port", p.Name, "uplink", p.Uplink)
	} else {
		g.log.Warn("uplink does not carry anything", "port", p.Name, "uplink", p.Uplink, "state", state)
	}
	if g.changed != nil {
		g.changed(now)
	}
}

// Uplinks tells the state of each port's uplink.
func (g *Gate) Uplinks() []Uplink {
	var all []Uplink
	for _, p := range g.ports {
		all = append(all, p.uplinkNow())
	}
	return all
}

func (p *port) uplinkNow() Uplink {
	p.state.Lock()
	defer p.state.Unlock()
	return p.state.Uplink
}
