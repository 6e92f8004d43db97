package guestagent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// afpacket is a network interface of the kernel: AF_PACKET sockets with a
// TPACKET_V2 ring to receive (include/uapi/linux/if_packet.h) and batches by
// sendmmsg(2) to send.
//
// VLAN tags, which the kernel takes off, are put back. A checksum that a
// neighbour in the same machine left to hardware is completed. Frames longer
// than a ring slot, or merged by the kernel, are dropped and counted. On the
// way out frames go as they are: no tag is taken off, no checksum is left open.
// What the kernel has taken leaves, unless the interface has a queue discipline that
// PortOptions.KeepDiscipline left there.
type afpacket struct {
	info DeviceInfo
	rx   []*rxRing
	tx   []*txBatch

	mu       sync.Mutex // for the figures
	closed   bool
	received uint64
	full     uint64
}

// openInterface opens an interface as the kernel's kind of device.
func openInterface(name string, o PortOptions, bufferSize int) (Device, error) {
	d, err := openAFPacket(name, o, bufferSize)
	if err != nil {
		return nil, err // and not a Device that is a nil *afpacket
	}
	return d, nil
}

// openAFPacket opens an interface for frames of up to bufferSize bytes.
func openAFPacket(name string, o PortOptions, bufferSize int) (_ *afpacket, err error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	if need := ifi.MTU + 18; need > bufferSize {
		return nil, fmt.Errorf("frames of %d bytes, buffers of %d (Config.BufferSize)", need, bufferSize)
	}
	d := &afpacket{info: DeviceInfo{
		Name: name, Index: ifi.Index, MTU: ifi.MTU, HardwareAddr: ifi.HardwareAddr,
		RxQueues: o.RxQueues, TxQueues: o.TxQueues,
	}}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if !o.KeepGRO {
		if err := stopMerging(name); err != nil {
			return nil, err
		}
	}
	if !o.KeepDiscipline {
		if err := keepPackets(name); err != nil {
			return nil, err
		}
	}
	if err := d.openTx(); err != nil {
		return nil, err
	}
	return d, d.openRx(o)
}

func (d *afpacket) openTx() error {
	for range d.info.TxQueues {
		b, err := newTxBatch(d.info.Index)
		if err != nil {
			return err
		}
		d.tx = append(d.tx, b)
	}
	return nil
}

func (d *afpacket) openRx(o PortOptions) error {
	group := 0
	for i := range d.info.RxQueues {
		r, err := newRxRing(d.info, o)
		if err != nil {
			return err
		}
		d.rx = append(d.rx, r)
		if d.info.RxQueues == 1 {
			return nil
		}
		if group, err = r.join(group, i == 0); err != nil {
			return err
		}
	}
	for _, r := range d.rx[1:] {
		r.discard() // duplicates from before it joined
	}
	return nil
}

// Info implements [Device].
func (d *afpacket) Info() DeviceInfo { return d.info }

// Receive implements [Device].
func (d *afpacket) Receive(queue int, packets []*Packet) int {
	return d.rx[queue].receive(packets)
}

// Transmit implements [Device].
func (d *afpacket) Transmit(queue int, packets []*Packet) int {
	return d.tx[queue].send(packets)
}

// Wait implements [Device].
func (d *afpacket) Wait(queue int, timeout time.Duration) error {
	return d.rx[queue].wait(timeout)
}

// Received implements [Device].
func (d *afpacket) Received() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.collect()
	return d.received
}

// Drops implements [Device].
func (d *afpacket) Drops() Drops {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.collect()
	drops := Drops{Full: d.full}
	for _, r := range d.rx {
		drops.Oversize += r.oversize.Load()
	}
	for _, b := range d.tx {
		drops.Transmit += b.drops.Load()
	}
	return drops
}

// collect adds up the kernel's figures, which reading sets to zero; called with
// mu held. Packets includes Drops.
func (d *afpacket) collect() {
	if d.closed {
		return
	}
	for _, r := range d.rx {
		if s, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			d.received += uint64(s.Packets)
			d.full += uint64(s.Drops)
		}
	}
}

// Close implements [Device]. The rings' memory is unmapped when nobody can
// reach it any more: a receiver may still be looking at it.
func (d *afpacket) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.collect()
	d.closed = true
	var errs []error
	for _, r := range d.rx {
		errs = append(errs, r.close())
	}
	for _, b := range d.tx {
		errs = append(errs, b.file.Close())
	}
	return errors.Join(errs...)
}

// packetSocket is bound to an interface. Protocol 0 receives nothing.
func packetSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	return fd, nil
}

func bindPacket(fd, index int, protocol uint16) error {
	network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
	address := &unix.SockaddrLinklayer{Ifindex: index, Protocol: network}
	if err := unix.Bind(fd, address); err != nil {
		return fmt.Errorf("bind packet socket: %w", err)
	}
	return nil
}

// asFile makes fd known to Go's poller.
func asFile(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }
