package segment

import (
	"encoding/binary"
	"fmt"
)

// layout says where the headers are of a frame that stands for many.
type layout struct {
	ip, transport, payload int // the innermost headers
	six, tcp               bool
	labelled               bool // by MPLS
	odd                    bool
	size                   int // of a segment's payload
	// around are the headers of tunnels around the innermost ones that tell a length or
	// a checksum, the outermost first.
	around [tunnelsMost]header
	depth  int
}

// tunnelsMost is more than the kernel nests in a frame of many segments.
const tunnelsMost = 6

type header struct {
	kind headerKind
	at   int
}

type headerKind byte

const (
	headerIPv4 headerKind = iota
	headerIPv6
	headerUDP
	headerGRE
)

const (
	protocolIPv4, protocolTCP, protocolUDP, protocolIPv6, protocolGRE, protocolSCTP = 4, 6, 17, 41, 47, 132

	typeIPv4, typeIPv6, typeBridged        = 0x0800, 0x86dd, 0x6558
	typeMPLS, typeMPLSMulticast            = 0x8847, 0x8848
	greChecksum, greKey, greOrder   uint16 = 0x8000, 0x2000, 0x1000
)

// Tunnelled tells whether a frame stands for many and has more headers than the
// virtio header can tell of: the kernel then gives its kind and offsets for what is
// inside, and would take them for those of the outermost headers.
func Tunnelled(frame []byte) bool {
	if !Segmented(frame) || frame[fieldFlags]&needsChecksum == 0 {
		return false
	}
	l := layout{transport: VirtioHeader + int(binary.NativeEndian.Uint16(frame[fieldChecksumStart:]))}
	_ = l.find(frame) // cut tells what is wrong with it
	return l.depth > 0 || l.labelled
}

// find walks from the Ethernet header to the IP header before the transport header.
func (l *layout) find(frame []byte) error {
	at, kind, err := network(frame, VirtioHeader+12)
	for err == nil {
		switch kind {
		case typeIPv4, typeIPv6:
		case typeMPLS, typeMPLSMulticast:
			l.labelled = true
			if at, kind, err = innermost(frame, at, l.transport); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: it is not IP", ErrCannotCut)
		}
		l.ip, l.six = at, kind == typeIPv6
		end, protocol, whole := endOfIP(frame, at, l.six)
		if !whole || end > l.transport {
			return fmt.Errorf("%w: its headers are not whole", ErrCannotCut)
		}
		if end == l.transport {
			return nil
		}
		at, kind, err = l.enter(frame, at, end, protocol)
	}
	return err
}

// enter goes into a tunnel, whose IP header is from at to end.
func (l *layout) enter(frame []byte, at, end int, protocol byte) (inner, kind int, err error) {
	outer := header{headerIPv4, at}
	if l.six {
		outer.kind = headerIPv6
	}
	switch protocol {
	case protocolIPv4:
		inner, kind = end, typeIPv4
	case protocolIPv6:
		inner, kind = end, typeIPv6
	case protocolGRE, protocolUDP:
	default:
		return 0, 0, fmt.Errorf("%w: protocol %d is before what is to be cut", ErrCannotCut, protocol)
	}
	if l.depth+2 > tunnelsMost {
		return 0, 0, fmt.Errorf("%w: it is in too many tunnels", ErrCannotCut)
	}
	l.push(outer)
	switch protocol {
	case protocolGRE:
		return l.enterGRE(frame, end)
	case protocolUDP:
		// VXLAN, GENEVE and others: their ports are anybody's, so they are not told apart.
		l.push(header{headerUDP, end})
		return innermost(frame, end+8, l.transport)
	}
	return inner, kind, nil
}

// push: sums of headers are taken word by word.
func (l *layout) push(h header) {
	l.odd = l.odd || (l.transport-h.at)%2 != 0
	l.around[l.depth] = h
	l.depth++
}

func (l *layout) enterGRE(frame []byte, at int) (inner, kind int, err error) {
	if at+4 > l.transport || at+4 > len(frame) {
		return 0, 0, fmt.Errorf("%w: its GRE header is not whole", ErrCannotCut)
	}
	flags := binary.BigEndian.Uint16(frame[at:])
	if flags&^(greChecksum|greKey) != 0 {
		// A sequence number would have to be another in each piece.
		return 0, 0, fmt.Errorf("%w: a GRE header with the flags %#04x", ErrCannotCut, flags)
	}
	l.push(header{headerGRE, at})
	inner, kind = at+4, int(binary.BigEndian.Uint16(frame[at+2:]))
	for _, option := range []uint16{greChecksum, greKey} {
		if flags&option != 0 {
			inner += 4
		}
	}
	switch kind {
	case typeIPv4, typeIPv6:
		return inner, kind, nil
	case typeBridged:
		return network(frame, inner+12)
	}
	return innermost(frame, inner, l.transport)
}

// network reads the type of an Ethernet header, at its first tag, and says what
// follows.
func network(frame []byte, at int) (next, kind int, err error) {
	for ; at+2 <= len(frame); at += VLANTag {
		switch kind := int(binary.BigEndian.Uint16(frame[at:])); kind {
		case 0x8100, 0x88a8, 0x9100:
		default:
			return at + 2, kind, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: its headers are not whole", ErrCannotCut)
}

// endOfIP says where an IP header ends, its extension headers included, and of which
// protocol what follows is.
func endOfIP(frame []byte, at int, six bool) (end int, protocol byte, whole bool) {
	if !six {
		if at+20 > len(frame) || frame[at]>>4 != 4 || frame[at]&15 < 5 {
			return 0, 0, false
		}
		end = at + int(frame[at]&15)*4
		return end, frame[at+9], end <= len(frame)
	}
	if at+40 > len(frame) || frame[at]>>4 != 6 {
		return 0, 0, false
	}
	const hopByHop, routing, options = 0, 43, 60
	end, protocol = at+40, frame[at+6]
	for protocol == hopByHop || protocol == routing || protocol == options {
		if end+8 > len(frame) {
			return 0, 0, false
		}
		protocol, end = frame[end], end+8+int(frame[end+1])*8
	}
	return end, protocol, end <= len(frame)
}

// innermost finds the IP header that ends where a transport header begins: what is
// between it and the tunnel's header is the tunnel's affair.
func innermost(frame []byte, from, transport int) (at, kind int, err error) {
	for size := 20; size <= 60 && transport-size >= from; size += 4 {
		if at := transport - size; isIPv4(frame, at, transport) {
			return at, typeIPv4, nil
		}
	}
	for size := 40; size <= 40+8*8 && transport-size >= from; size += 8 {
		if at := transport - size; isIPv6(frame, at, transport) {
			return at, typeIPv6, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: no IP header is found in its tunnel", ErrCannotCut)
}

func isIPv4(frame []byte, at, transport int) bool {
	end, protocol, whole := endOfIP(frame, at, false)
	return whole && end == transport && (protocol == protocolTCP || protocol == protocolUDP) &&
		int(binary.BigEndian.Uint16(frame[at+2:])) == len(frame)-at && sum16(frame[at:end], 0) == 0xffff
}

func isIPv6(frame []byte, at, transport int) bool {
	end, protocol, whole := endOfIP(frame, at, true)
	return whole && end == transport && (protocol == protocolTCP || protocol == protocolUDP) &&
		int(binary.BigEndian.Uint16(frame[at+4:])) == len(frame)-at-40
}
