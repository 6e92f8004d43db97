package guestagent

import (
	"errors"
	"net"
	"time"
)

// ErrClosed says that a port or its agent has been closed. Devices may wrap it: look for
// it with errors.Is.
var ErrClosed = errors.New("port closed")

// A Device is what a port takes packets from and gives them to. Queues are numbered from
// 0; the port passes on the numbers that the application gives it, of which it checks that
// there are such queues. Different methods, and one method on different queues, are called
// at once.
type Device interface {
	// Info says what the device is. It does not change.
	Info() DeviceInfo
	// Receive takes frames out of a queue into packets[i], in order, without
	// waiting, and says how many. It fills a packet by Set, and sets its Time; a frame
	// that is too long it drops and counts. It may not keep the packets. One goroutine at
	// a time per queue.
	Receive(queue int, packets []*Packet) int
	// Transmit sends frames, in order, without waiting, and says how many it
	// has done with: their buffers are used again. One that it cannot send at all it
	// drops and counts. One goroutine at a time per queue.
	Transmit(queue int, packets []*Packet) int
	// Wait waits until there may be a frame to receive, for at most timeout; a
	// negative one means for ever. It takes nothing out. It returns no error when the
	// time is up, an error that is ErrClosed once the device is closed, and another one
	// if the device has failed. One goroutine at a time per queue, besides Close.
	Wait(queue int, timeout time.Duration) error
	// Received is how many frames reached the device since it was opened:
	// received, waiting, or lost for want of room. It is called at any time, also after
	// Close.
	Received() uint64
	// Drops is what was lost in the device since it was opened. It is called at any time,
	// also after Close.
	Drops() Drops
	// Close ends all waiting. Nothing is called afterwards but the figures and Close, which
	// does nothing then; no Receive or Transmit is running.
	Close() error
}

// DeviceInfo describes a device.
type DeviceInfo struct {
	Name         string
	Index        int // of the interface, 0 if there is none
	MTU          int // bytes after the Ethernet header
	HardwareAddr net.HardwareAddr
	RxQueues     int
	TxQueues     int
}

// Drops are frames lost in a device, by cause.
type Drops struct {
	Full     uint64 // no room: the application was too slow, or paused too long
	Oversize uint64 // received, longer than a ring slot or a buffer
	Transmit uint64 // the device refused to send them
}
