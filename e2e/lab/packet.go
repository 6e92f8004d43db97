package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// packetSocket is a raw packet socket bound to one interface.
type packetSocket struct {
	file *os.File
	raw  syscall.RawConn
}

type socketOption struct{ level, name, value int }

// openPacket opens a packet socket inside a namespace, with a receive buffer
// of some bytes and more options.
func openPacket(s *Space, ifname string, buffer int, options ...socketOption) (p *packetSocket, err error) {
	options = append(options, socketOption{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer})
	err = s.Do(func() error {
		p, err = openPacketHere(ifname, options)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s in %s: %w", ifname, s.Name, err)
	}
	return p, nil
}

func openPacketHere(ifname string, options []socketOption) (*packetSocket, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, err
	}
	// Protocol 0 keeps the socket deaf until it is bound to its interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "packet:"+ifname)
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			file.Close()
			return nil, fmt.Errorf("set option %d/%d: %w", o.level, o.name, err)
		}
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}); err != nil {
		file.Close()
		return nil, err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &packetSocket{file, raw}, nil
}
