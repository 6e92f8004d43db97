package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// kernelCounts asks the kernel how many frames it has sent through an interface, which
// of a tap are those that the process behind it has read: one datagram each way on
// a socket of RTM_GETSTATS (linux/if_link.h, linux/rtnetlink.h), and nothing is
// allocated. One goroutine at a time.
type kernelCounts struct {
	fd      int // -1: closed
	number  uint32
	request [statsRequest]byte
	answer  [1024]byte
}

const (
	statsHeader  = 12 // struct if_stats_msg: family, pads, interface, filter
	statsRequest = unix.SizeofNlMsghdr + statsHeader
	// In struct rtnl_link_stats64 tx_packets is the second of its 64-bit fields.
	txPackets = 8
)

func openKernelCounts() (*kernelCounts, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a socket for the interfaces' counters: %w", err)
	}
	return &kernelCounts{fd: fd}, nil
}

func (c *kernelCounts) close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
	}
	c.fd = -1
}

// sent is how many frames have left through an interface since it was made.
func (c *kernelCounts) sent(ifindex int) (uint64, error) {
	frames, err := c.ask(ifindex)
	if err != nil {
		return 0, fmt.Errorf("read the counters of interface %d: %w", ifindex, err)
	}
	return frames, nil
}

// ask: the kernel has answered when the request has been sent.
func (c *kernelCounts) ask(ifindex int) (uint64, error) {
	if c.fd < 0 {
		return 0, os.ErrClosed
	}
	c.number++
	appendStatsRequest(c.request[:0], c.number, uint32(ifindex))
	if _, err := unix.Write(c.fd, c.request[:]); err != nil {
		return 0, err
	}
	for {
		n, err := unix.Read(c.fd, c.answer[:])
		if err != nil {
			return 0, err
		}
		frames, err := statsSent(c.answer[:n], c.number)
		if !errors.Is(err, errOtherAnswer) {
			return frames, err
		}
	}
}

func appendStatsRequest(b []byte, number, ifindex uint32) []byte {
	native := binary.NativeEndian
	b = native.AppendUint32(b, statsRequest)
	b = native.AppendUint16(b, unix.RTM_GETSTATS)
	b = native.AppendUint16(b, unix.NLM_F_REQUEST)
	b = native.AppendUint32(b, number)
	b = native.AppendUint32(b, 0) // to the kernel
	b = append(b, unix.AF_UNSPEC, 0, 0, 0)
	b = native.AppendUint32(b, ifindex)
	return native.AppendUint32(b, 1<<(unix.IFLA_STATS_LINK_64-1))
}

var (
	errOtherAnswer = errors.New("the answer to another request")
	errNoStats     = errors.New("the kernel's answer holds no counters")
)

// statsSent reads the answer to a request: frames that were sent.
func statsSent(b []byte, number uint32) (uint64, error) {
	native := binary.NativeEndian
	if len(b) < unix.SizeofNlMsghdr {
		return 0, errNoStats
	}
	if native.Uint32(b[8:]) != number {
		return 0, errOtherAnswer
	}
	kind, b := native.Uint16(b[4:]), b[unix.SizeofNlMsghdr:]
	switch {
	case kind == unix.NLMSG_ERROR && len(b) >= 4:
		if code := int32(native.Uint32(b)); code < 0 {
			return 0, unix.Errno(-code)
		}
		return 0, errNoStats
	case kind != unix.RTM_NEWSTATS || len(b) < statsHeader:
		return 0, errNoStats
	}
	for b = b[statsHeader:]; len(b) >= unix.SizeofRtAttr; {
		length := int(native.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			break
		}
		if value := b[unix.SizeofRtAttr:length]; native.Uint16(b[2:]) == unix.IFLA_STATS_LINK_64 && len(value) >= txPackets+8 {
			return native.Uint64(value[txPackets:]), nil
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	return 0, errNoStats
}
