package netdev

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/rtnetlink"
)

// Counts asks the kernel how many frames it has sent through an interface, which of a tap
// are those that the process behind it has read: one datagram each way, and nothing is
// allocated. One goroutine at a time.
type Counts struct {
	fd      int // -1: closed
	number  uint32
	request [rtnetlink.StatsRequestLength]byte
	answer  [1024]byte
}

// OpenCounts opens the socket that asks.
func OpenCounts() (*Counts, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a socket for the interfaces' counters: %w", err)
	}
	return &Counts{fd: fd}, nil
}

// Close ends it.
func (c *Counts) Close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
	}
	c.fd = -1
}

// Sent is how many frames have left through an interface since it was made.
func (c *Counts) Sent(ifindex int) (uint64, error) {
	frames, err := c.ask(ifindex)
	if err != nil {
		return 0, fmt.Errorf("read the counters of interface %d: %w", ifindex, err)
	}
	return frames, nil
}

// ask: the kernel has answered when the request has been sent.
func (c *Counts) ask(ifindex int) (uint64, error) {
	if c.fd < 0 {
		return 0, os.ErrClosed
	}
	c.number++
	rtnetlink.AppendStatsRequest(c.request[:0], c.number, uint32(ifindex))
	if _, err := unix.Write(c.fd, c.request[:]); err != nil {
		return 0, err
	}
	for {
		n, err := unix.Read(c.fd, c.answer[:])
		if err != nil {
			return 0, err
		}
		frames, err := rtnetlink.StatsSent(c.answer[:n], c.number)
		if !errors.Is(err, rtnetlink.ErrOtherAnswer) {
			return frames, err
		}
	}
}
