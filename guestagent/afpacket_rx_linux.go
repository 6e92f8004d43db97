package guestagent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	vnetHeader = 10 // struct virtio_net_hdr, before each frame in the ring
	// slotOverhead is more than what precedes a frame in its slot: tpacket2_hdr,
	// sockaddr_ll, virtio_net_hdr, alignment, and a VLAN tag.
	slotOverhead = 128
	blockSize    = 64 << 10
)

// rxRing is a socket with its ring.
type rxRing struct {
	fd       int
	file     *os.File
	conn     syscall.RawConn
	ring     []byte
	slotSize int
	slots    int
	next     int
	deadline bool // one is set on file
	ready    func(uintptr) bool
	oversize atomic.Uint64
	closed   atomic.Bool
}

// close ends wait. The ring's memory stays: see afpacket.Close.
func (r *rxRing) close() error {
	r.closed.Store(true)
	return r.file.Close()
}

func newRxRing(info DeviceInfo, o PortOptions) (_ *rxRing, err error) {
	fd, err := packetSocket()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	r := &rxRing{fd: fd}
	if err := setRxOptions(fd); err != nil {
		return nil, err
	}
	if err := r.mapRing(info.MTU, o.RingSlots); err != nil {
		return nil, err
	}
	if o.Promiscuous {
		m := &unix.PacketMreq{Ifindex: int32(info.Index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, m); err != nil {
			return nil, fmt.Errorf("receive promiscuously: %w", err)
		}
	}
	if err := bindPacket(fd, info.Index, unix.ETH_P_ALL); err != nil {
		return nil, err
	}
	file := asFile(fd, "packet-rx")
	if r.conn, err = file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	r.file = file
	r.ready = func(uintptr) bool { return r.status(r.next)&unix.TP_STATUS_USER != 0 }
	return r, nil
}

func setRxOptions(fd int) error {
	for _, o := range []struct {
		name  string
		opt   int
		value int
	}{
		{"PACKET_VERSION", unix.PACKET_VERSION, unix.TPACKET_V2},
		{"PACKET_VNET_HDR", unix.PACKET_VNET_HDR, 1},
		{"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, 1},
	} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, o.opt, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	return nil
}

// mapRing makes a ring of at least so many slots. Slots are a power of two, so
// that they fill blocks without gaps.
func (r *rxRing) mapRing(mtu, slots int) error {
	r.slotSize = max(2048, 1<<bits.Len(uint(mtu+slotOverhead-1)))
	block := max(blockSize, r.slotSize)
	blocks := max(1, (slots*r.slotSize+block-1)/block)
	r.slots = blocks * block / r.slotSize
	request := &unix.TpacketReq{
		Block_size: uint32(block), Block_nr: uint32(blocks),
		Frame_size: uint32(r.slotSize), Frame_nr: uint32(r.slots),
	}
	if err := unix.SetsockoptTpacketReq(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, request); err != nil {
		return fmt.Errorf("make receive ring of %d slots: %w", r.slots, err)
	}
	ring, err := unix.Mmap(r.fd, 0, blocks*block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map receive ring: %w", err)
	}
	r.ring = ring
	runtime.AddCleanup(r, func(ring []byte) { unix.Munmap(ring) }, ring)
	return nil
}

// join makes the socket one of a group that shares the interface's packets by
// flow.
func (r *rxRing) join(group int, first bool) (int, error) {
	const hash = unix.PACKET_FANOUT_HASH
	value := group | hash<<16
	if first {
		value = (hash | unix.PACKET_FANOUT_FLAG_UNIQUEID) << 16
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, value); err != nil {
		return 0, fmt.Errorf("join fanout group: %w", err)
	}
	value, err := unix.GetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	if err != nil {
		return 0, fmt.Errorf("read fanout group: %w", err)
	}
	return value & 0xffff, nil
}

func (r *rxRing) header(slot int) *unix.Tpacket2Hdr {
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(&r.ring[slot*r.slotSize]))
}

func (r *rxRing) status(slot int) uint32 { return atomic.LoadUint32(&r.header(slot).Status) }

// release gives the next slot back to the kernel.
func (r *rxRing) release() {
	atomic.StoreUint32(&r.header(r.next).Status, unix.TP_STATUS_KERNEL)
	if r.next++; r.next == r.slots {
		r.next = 0
	}
}

func (r *rxRing) discard() {
	for r.status(r.next)&unix.TP_STATUS_USER != 0 {
		r.release()
	}
}

// receive copies frames into packets: a packet that the application holds for
// long pins no slot.
func (r *rxRing) receive(packets []*Packet) int {
	n := 0
	for n < len(packets) {
		status := r.status(r.next)
		if status&unix.TP_STATUS_USER == 0 {
			break
		}
		if r.copyTo(packets[n], status) {
			n++
		} else {
			r.oversize.Add(1)
		}
		r.release()
	}
	return n
}

// copyTo reports false for a frame that is not whole or too long.
func (r *rxRing) copyTo(p *Packet, status uint32) bool {
	h := r.header(r.next)
	slot := r.ring[r.next*r.slotSize:][:r.slotSize]
	mac, length := int(h.Mac), int(h.Snaplen)
	if h.Len != h.Snaplen || mac < vnetHeader || mac+length > len(slot) {
		return false
	}
	vnet := slot[mac-vnetHeader : mac]
	if gsoType := vnet[1]; gsoType != 0 || !p.Set(slot[mac:mac+length]) {
		return false
	}
	if vnet[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
		start := int(binary.NativeEndian.Uint16(vnet[6:]))
		completeChecksum(p.Data, start, start+int(binary.NativeEndian.Uint16(vnet[8:])))
	}
	if status&unix.TP_STATUS_VLAN_VALID != 0 && !insertTag(p, tpid(h, status), h.Vlan_tci) {
		return false
	}
	p.Time = time.Unix(int64(h.Sec), int64(h.Nsec))
	return true
}

func tpid(h *unix.Tpacket2Hdr, status uint32) uint16 {
	if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		return h.Vlan_tpid
	}
	return unix.ETH_P_8021Q
}

// insertTag puts a VLAN tag back behind the two addresses, which move into the
// headroom.
func insertTag(p *Packet, tpid, tci uint16) bool {
	if len(p.Data) < 14 || !p.Push(4) {
		return false
	}
	copy(p.Data, p.Data[4:16])
	binary.BigEndian.PutUint16(p.Data[12:], tpid)
	binary.BigEndian.PutUint16(p.Data[14:], tci)
	return true
}

// completeChecksum sums from start on, where the field holds the sum of the
// pseudo header so far, and puts the Internet checksum at field (RFC 1071).
func completeChecksum(frame []byte, start, field int) {
	if start > len(frame) || field+2 > len(frame) || field < start {
		return
	}
	sum := uint64(0)
	b := frame[start:]
	for ; len(b) >= 2; b = b[2:] {
		sum += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	check := ^uint16(sum)
	if check == 0 {
		check = 0xffff // zero would mean "none" in UDP, and is equal elsewhere
	}
	binary.BigEndian.PutUint16(frame[field:], check)
}

// wait parks the goroutine in Go's poller, not a thread in the kernel.
func (r *rxRing) wait(timeout time.Duration) error {
	if err := r.setDeadline(timeout); err != nil {
		return ErrClosed
	}
	err := r.conn.Read(r.ready)
	switch {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case r.closed.Load(): // the poller's own error for it is not exported
		return ErrClosed
	}
	return fmt.Errorf("wait for packets: %w", err)
}

func (r *rxRing) setDeadline(timeout time.Duration) error {
	if timeout >= 0 {
		r.deadline = true
		return r.file.SetReadDeadline(time.Now().Add(timeout))
	}
	if !r.deadline {
		return nil
	}
	r.deadline = false
	return r.file.SetReadDeadline(time.Time{})
}
