package segment

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/stillpoint-ft/stillpoint/hostd/fifo"
)

// PiecesMost is into how many pieces a frame may be cut.
const PiecesMost = 768

// ErrCannotCut says why a frame cannot be cut.
var ErrCannotCut = errors.New("a frame of many segments that cannot be cut")

// Cutter makes of one frame that stands for many the frames that it stands for, as a
// network card does. It is used again.
type Cutter struct {
	pieces fifo.Queue[struct{}]
	buffer []byte
}

// Cut makes the pieces of a frame. The kernel completes their checksums, or leaves that to
// the guest; those of frames in tunnels are complete, since not every network card can
// complete the inner ones.
func (c *Cutter) Cut(frame []byte) error {
	c.pieces.Drop(c.pieces.Len())
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
		c.pieces.Push(c.buffer, struct{}{})
	}
	return nil
}

// Len counts the pieces.
func (c *Cutter) Len() int { return c.pieces.Len() }

// Piece is valid until the next frame is cut.
func (c *Cutter) Piece(i int) []byte { return c.pieces.Data(i) }

// Batch adds to a batch, as far as it has room, the pieces from number i on.
func (c *Cutter) Batch(batch [][]byte, i int) [][]byte {
	for ; i < c.pieces.Len() && len(batch) < cap(batch); i++ {
		batch = append(batch, c.pieces.Data(i))
	}
	return batch
}

func layoutOf(frame []byte) (l layout, err error) {
	native, kind := binary.NativeEndian, frame[fieldKind]&^gsoECN
	l.size = int(native.Uint16(frame[fieldSize:]))
	l.transport = VirtioHeader + int(native.Uint16(frame[fieldChecksumStart:]))
	l.tcp = kind != gsoUDP
	if err := l.find(frame); err != nil {
		return l, err
	}
	head := l.transport + 8
	if l.tcp {
		head = l.transport + 20
	}
	switch {
	case kind != gsoTCP4 && kind != gsoTCP6 && kind != gsoUDP, frame[fieldFlags]&needsChecksum == 0, l.size == 0:
		return l, fmt.Errorf("%w: virtio header % x", ErrCannotCut, frame[:VirtioHeader])
	case head > len(frame), l.odd:
		return l, fmt.Errorf("%w: its headers are not whole", ErrCannotCut)
	}
	if l.payload = head; l.tcp {
		l.payload = l.transport + int(frame[l.transport+12]>>4)*4
	}
	if l.payload < head || l.payload >= len(frame) || (len(frame)-l.payload-1)/l.size >= PiecesMost {
		return l, fmt.Errorf("%w: %d bytes in segments of %d", ErrCannotCut, len(frame), l.size)
	}
	return l, nil
}

// mend writes into a piece what differs from the whole.
func (l *layout) mend(b []byte, i int, last bool) {
	native, big := binary.NativeEndian, binary.BigEndian
	b[fieldKind] = gsoNone
	native.PutUint16(b[fieldHeaderLength:], 0)
	native.PutUint16(b[fieldSize:], 0)
	length := len(b) - l.transport
	protocol, addresses := uint32(6), b[l.ip+12:l.ip+20]
	if l.six {
		big.PutUint16(b[l.ip+4:], uint16(len(b)-l.ip-40))
		addresses = b[l.ip+8 : l.ip+40]
	} else {
		mendIPv4(b, l.ip, i)
	}
	at := l.transport + 16
	if l.tcp {
		l.mendTCP(b, i, last)
	} else {
		protocol, at = 17, l.transport+6
		big.PutUint16(b[l.transport+4:], uint16(length))
	}
	// Of a checksum that is to be completed the field holds the pseudo header's part.
	pseudo := sum16(addresses, protocol+uint32(length))
	big.PutUint16(b[at:], pseudo)
	if l.depth > 0 || l.labelled {
		sum := ^sum16(b[l.transport:], 0)
		if l.tcp {
			big.PutUint16(b[at:], sum)
		} else {
			putUDPSum(b[at:], sum)
		}
		clear(b[:VirtioHeader])
		l.mendTunnels(b, i, ^pseudo)
	}
}

// putUDPSum: 0 would say that there is no checksum.
func putUDPSum(b []byte, sum uint16) {
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b, sum)
}

// mendTunnels does the same with the headers around, from the inside out. inside is
// the sum of everything from the transport header on: what its checksum leaves of it.
func (l *layout) mendTunnels(b []byte, i int, inside uint16) {
	big := binary.BigEndian
	for n := l.depth - 1; n >= 0; n-- {
		switch h := l.around[n]; h.kind {
		case headerIPv4:
			mendIPv4(b, h.at, i)
		case headerIPv6:
			big.PutUint16(b[h.at+4:], uint16(len(b)-h.at-40))
		case headerGRE:
			if big.Uint16(b[h.at:])&greChecksum != 0 {
				big.PutUint16(b[h.at+4:], 0)
				big.PutUint16(b[h.at+4:], ^sum16(b[h.at:l.transport], uint32(inside)))
			}
		case headerUDP:
			big.PutUint16(b[h.at+4:], uint16(len(b)-h.at))
			if big.Uint16(b[h.at+6:]) != 0 {
				big.PutUint16(b[h.at+6:], 0)
				sum := uint32(inside) + uint32(sum16(addressesOf(b, l.around[n-1]), uint32(protocolUDP+len(b)-h.at)))
				putUDPSum(b[h.at+6:], ^sum16(b[h.at:l.transport], sum))
			}
		}
	}
}

func addressesOf(b []byte, ip header) []byte {
	if ip.kind == headerIPv6 {
		return b[ip.at+8 : ip.at+40]
	}
	return b[ip.at+12 : ip.at+20]
}

func mendIPv4(b []byte, at, i int) {
	big := binary.BigEndian
	h := b[at:]
	big.PutUint16(h[2:], uint16(len(h)))
	big.PutUint16(h[4:], big.Uint16(h[4:])+uint16(i))
	big.PutUint16(h[10:], 0)
	big.PutUint16(h[10:], ^sum16(h[:int(h[0]&15)*4], 0))
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

// sum16 is the sum of RFC 1071, not complemented.
func sum16(b []byte, start uint32) uint16 {
	sum := uint64(start)
	for ; len(b) >= 16; b = b[16:] { // the sum of wider words folds to the same
		first, second := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		sum += first>>32 + first&0xffffffff + second>>32 + second&0xffffffff
	}
	for ; len(b) >= 2; b = b[2:] {
		sum += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
