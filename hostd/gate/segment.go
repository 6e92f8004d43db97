package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Of struct virtio_net_hdr, linux/virtio_net.h, in the host's byte order.
const (
	vnetFlags, vnetGSO                         = 0, 1
	vnetHeaderLen, vnetSize                    = 2, 4
	vnetChecksumStart, vnetChecksumOffset      = 6, 8
	needsChecksum                         byte = 1
	gsoNone, gsoTCP4, gsoTCP6, gsoUDP     byte = 0, 1, 4, 5
	gsoECN                                byte = 0x80
)

var errCannotCut = errors.New("a frame of many segments that cannot be cut")

// segmented tells whether a frame stands for many.
func segmented(frame []byte) bool { return frame[vnetGSO] != gsoNone }

// cutter makes of one frame that stands for many the frames that it stands for, as a
// network card does. It is used again.
type cutter struct {
	pieces queue
	buffer []byte
	batch  [sendBatch][]byte // being handed in
}

// layout says where a frame's headers are.
type layout struct {
	ip, transport, payload int
	six, tcp               bool
	size                   int // of a segment's payload
}

// cut fills pieces. The kernel completes their checksums, or leaves that to the guest.
func (c *cutter) cut(frame []byte) error {
	c.pieces.reset()
	l, err := layoutOf(frame)
	if err != nil {
		return err
	}
	rest := frame[l.payload:]
	for i := 0; len(rest) > 0; i++ {
		n := min(l.size, len(rest))
		c.buffer = append(append(c.buffer[:0], frame[:l.payload]...), rest[:n]...)
		rest = rest[n:]
		l.mend(c.buffer, i, len(rest) == 0)
		c.pieces.push(0, c.buffer)
	}
	return nil
}

func layoutOf(frame []byte) (l layout, err error) {
	native, kind := binary.NativeEndian, frame[vnetGSO]&^gsoECN
	l.size = int(native.Uint16(frame[vnetSize:]))
	l.transport = vnetHeader + int(native.Uint16(frame[vnetChecksumStart:]))
	l.tcp = kind != gsoUDP
	if err := l.findIP(frame); err != nil {
		return l, err
	}
	head := l.transport + 8
	if l.tcp {
		head = l.transport + 20
	}
	switch {
	case kind != gsoTCP4 && kind != gsoTCP6 && kind != gsoUDP, frame[vnetFlags]&needsChecksum == 0, l.size == 0:
		return l, fmt.Errorf("%w: virtio header % x", errCannotCut, frame[:vnetHeader])
	case l.transport < l.ip+20 || l.six && l.transport < l.ip+40 || head > len(frame):
		return l, fmt.Errorf("%w: its headers are not whole", errCannotCut)
	}
	if l.payload = head; l.tcp {
		l.payload = l.transport + int(frame[l.transport+12]>>4)*4
	}
	if l.payload < head || l.payload >= len(frame) || (len(frame)-l.payload-1)/l.size >= piecesMost {
		return l, fmt.Errorf("%w: %d bytes in segments of %d", errCannotCut, len(frame), l.size)
	}
	return l, nil
}

func (l *layout) findIP(frame []byte) error {
	at := vnetHeader + 12
	for ; at+6 <= len(frame); at += vlanTag {
		switch binary.BigEndian.Uint16(frame[at:]) {
		case 0x8100, 0x88a8, 0x9100:
			continue
		case 0x0800:
			l.ip = at + 2
			return nil
		case 0x86dd:
			l.ip, l.six = at+2, true
			return nil
		}
		break
	}
	return fmt.Errorf("%w: it is not IP", errCannotCut)
}

// mend writes into a piece what differs from the whole.
func (l *layout) mend(b []byte, i int, last bool) {
	native, big := binary.NativeEndian, binary.BigEndian
	b[vnetGSO] = gsoNone
	native.PutUint16(b[vnetHeaderLen:], 0)
	native.PutUint16(b[vnetSize:], 0)
	length := len(b) - l.transport
	protocol, addresses := uint32(6), b[l.ip+12:l.ip+20]
	if l.six {
		big.PutUint16(b[l.ip+4:], uint16(len(b)-l.ip-40))
		addresses = b[l.ip+8 : l.ip+40]
	} else {
		l.mendIPv4(b, i)
	}
	at := l.transport + 16
	if l.tcp {
		l.mendTCP(b, i, last)
	} else {
		protocol, at = 17, l.transport+6
		big.PutUint16(b[l.transport+4:], uint16(length))
	}
	// Of a checksum that is to be completed the field holds the pseudo header's part.
	big.PutUint16(b[at:], sum16(addresses, protocol+uint32(length)))
}

func (l *layout) mendIPv4(b []byte, i int) {
	big := binary.BigEndian
	h := b[l.ip:]
	big.PutUint16(h[2:], uint16(len(h)))
	big.PutUint16(h[4:], big.Uint16(h[4:])+uint16(i))
	big.PutUint16(h[10:], 0)
	big.PutUint16(h[10:], ^sum16(h[:min(int(h[0]&15)*4, l.transport-l.ip)], 0))
}

func (l *layout) mendTCP(b []byte, i int, last bool) {
	const fin, push, windowReduced = 0x01, 0x08, 0x80
	h := b[l.transport:]
	binary.BigEndian.PutUint32(h[4:], binary.BigEndian.Uint32(h[4:])+uint32(i*l.size))
	if !last {
		h[13] &^= fin | push
	}
	if i > 0 {
		h[13] &^= windowReduced
	}
}

// sum16 is the sum of RFC 1071, not complemented. b has an even length.
func sum16(b []byte, sum uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
