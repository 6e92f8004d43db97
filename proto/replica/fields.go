package replica

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Bounds of the strings in a payload, in bytes.
const (
	MaxName   = 255 // of hosts, machines, blocks and versions
	MaxReason = 512
)

// appendString writes a u16 length and s. What is too long for the length is
// cut; no type has room for that much, so the writer refuses such a frame.
func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), math.MaxUint16)]
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// appendReason writes a text for people. It is cut where it is too long:
// half a reason is better than none.
func appendReason(b []byte, s string) []byte {
	return appendString(b, s[:min(len(s), MaxReason)])
}

// fields takes a payload apart. The first error sticks and everything after
// it is zero.
type fields struct {
	rest []byte
	err  error
}

// take gives the next n bytes, which stay part of the payload.
func (f *fields) take(n int) []byte {
	if f.err == nil && n > len(f.rest) {
		f.err = fmt.Errorf("%w: %d bytes where %d are needed", ErrMalformed, len(f.rest), n)
	}
	if f.err != nil {
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) u8() uint8 {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) u16() uint16 {
	if b := f.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (f *fields) u32() uint32 {
	if b := f.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (f *fields) u64() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (f *fields) text(most int) string {
	n := int(f.u16())
	if f.err == nil && n > most {
		f.err = fmt.Errorf("%w: text of %d bytes, at most %d", ErrMalformed, n, most)
	}
	return string(f.take(n))
}

func (f *fields) name() string { return f.text(MaxName) }

// count reads a number of items of at least size bytes each, so that no more
// is believed than there can be.
func (f *fields) count(size int) int {
	n := uint64(f.u32())
	if f.err == nil && n*uint64(size) > uint64(len(f.rest)) {
		f.err = fmt.Errorf("%w: %d items in %d bytes", ErrMalformed, n, len(f.rest))
	}
	if f.err != nil {
		return 0
	}
	return int(n)
}

// end says what went wrong in the payload of type t, if anything.
func (f *fields) end(t Type) error {
	if f.err == nil && len(f.rest) > 0 {
		f.err = fmt.Errorf("%w: %d bytes too many", ErrMalformed, len(f.rest))
	}
	if f.err != nil {
		return fmt.Errorf("replica: decode %v: %w", t, f.err)
	}
	return nil
}

// done is what a Decode function returns: v, or nothing but an error.
func done[T any](f *fields, t Type, v T) (T, error) {
	if err := f.end(t); err != nil {
		var none T
		return none, err
	}
	return v, nil
}
