package gate

import (
	"net"

	"golang.org/x/sys/unix"
)

// MTU of a port's uplink now; 0 where it is not known: the uplink is gone, or is no
// interface of this host.
func (g *Gate) MTU(port int) int {
	s, ok := g.ports[port].uplink.(*socket)
	if !ok {
		return 0
	}
	ifi, err := net.InterfaceByIndex(s.boundTo())
	if err != nil {
		return 0
	}
	return ifi.MTU
}

// boundTo is the index of the interface that the kernel has the socket bound to: no name,
// which a rename changes. It is no interface's once that is gone.
func (s *socket) boundTo() (ifindex int) {
	_ = s.raw.Control(func(fd uintptr) { // an error: closed
		address, err := unix.Getsockname(int(fd))
		if l, ok := address.(*unix.SockaddrLinklayer); err == nil && ok {
			ifindex = l.Ifindex
		}
	})
	return ifindex
}
