package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	magic   = 0x53504147 // "SPAG"
	version = 1
	// HeaderSize is the length of a frame's header in bytes.
	HeaderSize = 32
	// MaxPayload is the longest payload of any type, in bytes.
	MaxPayload = 1024
)

var (
	// ErrMalformed is in the error of everything that breaks the format.
	ErrMalformed = errors.New("malformed agent frame")
	// ErrTooLong says that a payload is over its type's limit.
	ErrTooLong = errors.New("agent payload too long")
)

// castagnoli is a constant in all but name.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Type says what a frame is.
type Type uint8

// The frames from the host.
const (
	TypeHello   Type = 1 // opens a session; no payload
	TypeQuiesce Type = 2 // [Quiesce]
	TypeResume  Type = 3 // [Resume]
	TypePing    Type = 4 // no payload
)

// The frames from the guest.
const (
	TypeWelcome   Type = 0x81 // [Welcome]
	TypeQuiescent Type = 0x82 // [Quiescent]
	TypeBusy      Type = 0x83 // [Busy]
	TypeResumed   Type = 0x84 // [Resumed]
	TypePong      Type = 0x85 // no payload
)

// String names the type.
func (t Type) String() string {
	switch t {
	case TypeHello:
		return "hello"
	case TypeQuiesce:
		return "quiesce"
	case TypeResume:
		return "resume"
	case TypePing:
		return "ping"
	case TypeWelcome:
		return "welcome"
	case TypeQuiescent:
		return "quiescent"
	case TypeBusy:
		return "busy"
	case TypeResumed:
		return "resumed"
	case TypePong:
		return "pong"
	}
	return fmt.Sprintf("type(%#x)", uint8(t))
}

// Limit is the longest payload in bytes, and whether the type is known. What
// the host says is short: a frame cut off by its restart then swallows no more
// than the beginning of the next one, and that is found again.
func (t Type) Limit() (int, bool) {
	switch t {
	case TypeHello, TypePing, TypePong:
		return 0, true
	case TypeQuiesce:
		return quiesceSize, true
	case TypeResume:
		return resumeSize, true
	case TypeBusy:
		return busySize, true
	case TypeResumed:
		return resumedSize, true
	case TypeWelcome, TypeQuiescent:
		return MaxPayload, true
	}
	return 0, false
}

// A Header introduces a frame.
type Header struct {
	Type    Type
	Session uint64 // as the host drew it, 0 if there is none yet
	Epoch   uint64 // informative
}

// Append appends the frame to b.
func Append(b []byte, h Header, payload []byte) ([]byte, error) {
	if err := check(h.Type, len(payload)); err != nil {
		return b, fmt.Errorf("encode %v: %w", h.Type, err)
	}
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, magic)
	b = append(b, version, byte(h.Type))
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = binary.BigEndian.AppendUint64(b, h.Session)
	b = binary.BigEndian.AppendUint64(b, h.Epoch)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...), nil
}

func check(t Type, length int) error {
	limit, known := t.Limit()
	if !known {
		return fmt.Errorf("%w: %v", ErrMalformed, t)
	}
	if length > limit {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, length, limit)
	}
	return nil
}

// parseHeader reads the header at the start of b, which holds at least
// HeaderSize bytes. It says how long the payload is.
func parseHeader(b []byte) (h Header, length int, err error) {
	if m := binary.BigEndian.Uint32(b); m != magic {
		return h, 0, fmt.Errorf("%w: magic %#x", ErrMalformed, m)
	}
	if sum := crc32.Checksum(b[:24], castagnoli); sum != binary.BigEndian.Uint32(b[24:]) {
		return h, 0, fmt.Errorf("%w: wrong header checksum", ErrMalformed)
	}
	if b[4] != version {
		return h, 0, fmt.Errorf("%w: version %d", ErrMalformed, b[4])
	}
	h = Header{
		Type:    Type(b[5]),
		Session: binary.BigEndian.Uint64(b[8:]),
		Epoch:   binary.BigEndian.Uint64(b[16:]),
	}
	length = int(binary.BigEndian.Uint16(b[6:]))
	return h, length, check(h.Type, length)
}

// payloadOK compares the payload with its checksum in the header.
func payloadOK(header, payload []byte) bool {
	return crc32.Checksum(payload, castagnoli) == binary.BigEndian.Uint32(header[28:])
}
