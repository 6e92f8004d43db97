// Package probe is the payload of Stillpoint's numbered test packets: what a
// client and a server exchange through the protected machine, and where the
// machine leaves its own running number, the stamp.
//
// A payload is HeaderLen bytes, big endian, followed by padding of any length:
//
//	 0  magic "SPROBE01"
//	 8  stream     u32
//	12  direction  u8, then three zero bytes
//	16  seq        u64
//	24  sent       i64, Unix nanoseconds
//	32  stamp      u64, 0 = not stamped
//	40  echo       u64, in a reply the stamp of its request
package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// Port is the UDP port that a probe server listens on.
	Port = 7000
	// HeaderLen is the length in bytes of a payload without padding.
	HeaderLen = 48
	// StampOffset is where the 8-byte stamp lies in a payload.
	StampOffset = 32

	magic = "SPROBE01"
)

// Direction says which way a packet travels.
type Direction uint8

// The two directions.
const (
	Request Direction = 0 // client to server
	Reply   Direction = 1 // server to client
)

// String names the direction.
func (d Direction) String() string {
	switch d {
	case Request:
		return "request"
	case Reply:
		return "reply"
	}
	return fmt.Sprintf("direction(%d)", uint8(d))
}

// Errors of Decode.
var (
	ErrShort     = errors.New("probe: payload shorter than 48 bytes")
	ErrMagic     = errors.New("probe: payload does not start with the magic")
	ErrDirection = errors.New("probe: unknown direction")
	ErrReserved  = errors.New("probe: reserved bytes are not zero")
)

// Packet is the content of one payload.
type Packet struct {
	Stream    uint32
	Direction Direction
	Seq       uint64
	Sent      int64  // Unix nanoseconds, by the sender's clock
	Stamp     uint64 // running number that the machine issued; 0 = not stamped
	Echo      uint64 // in a reply: the stamp of the request
}

// Append appends the HeaderLen bytes of p to b.
func (p Packet) Append(b []byte) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, p.Stream)
	b = append(b, byte(p.Direction), 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, p.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Sent))
	b = binary.BigEndian.AppendUint64(b, p.Stamp)
	return binary.BigEndian.AppendUint64(b, p.Echo)
}

// Is reports whether payload is long enough for a probe and starts with the
// magic. It is the cheap test that a forwarder makes before it stamps.
func Is(payload []byte) bool {
	return len(payload) >= HeaderLen && string(payload[:len(magic)]) == magic
}

// Decode reads a payload. Whatever follows the first HeaderLen bytes is padding
// and ignored.
func Decode(payload []byte) (Packet, error) {
	if len(payload) < HeaderLen {
		return Packet{}, ErrShort
	}
	if !Is(payload) {
		return Packet{}, ErrMagic
	}
	if payload[12] > byte(Reply) {
		return Packet{}, ErrDirection
	}
	if payload[13]|payload[14]|payload[15] != 0 {
		return Packet{}, ErrReserved
	}
	return Packet{
		Stream:    binary.BigEndian.Uint32(payload[8:]),
		Direction: Direction(payload[12]),
		Seq:       binary.BigEndian.Uint64(payload[16:]),
		Sent:      int64(binary.BigEndian.Uint64(payload[24:])),
		Stamp:     binary.BigEndian.Uint64(payload[StampOffset:]),
		Echo:      binary.BigEndian.Uint64(payload[40:]),
	}, nil
}
