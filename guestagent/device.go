package guestagent

import (
	"errors"
	"net"
	"time"
)

// ErrClosed is returned when a port or its agent has been closed.
var ErrClosed = errors.New("port closed")

// A Device is what a port takes packets from and gives them to.
type Device interface {
	// Info says what the device is.
	Info() DeviceInfo
	// Receive takes frames out of a queue into packets[i], in order, without
	// waiting, and says how many. One goroutine at a time per queue.
	Receive(queue int, packets []*Packet) int
	// Transmit sends frames, in order, without waiting, and says how many it
	// has done with; one that it cannot send at all it drops and counts. One
	// goroutine at a time per queue.
	Transmit(queue int, packets []*Packet) int
	// Wait waits until there may be a frame to receive, for at most timeout; a
	// negative one means for ever. It takes nothing out. It returns ErrClosed
	// once the device is closed. One goroutine at a time per queue.
	Wait(queue int, timeout time.Duration) error
	// Received is how many frames reached the device since it was opened:
	// received, waiting, or lost for want of room.
	Received() uint64
	// Drops is what was lost in the device.
	Drops() Drops
	// Close ends all waiting. Nothing may be called afterwards but Close; no
	// Receive or Transmit may be running.
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
