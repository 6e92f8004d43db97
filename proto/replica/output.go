package replica

import (
	"encoding/binary"
	"fmt"
)

// MaxFrame is the longest network frame in an output batch, in bytes: a TSO
// frame with its virtio header fits.
const MaxFrame = 128 << 10

const outputHead = 2 + 4 // port, length

// A Frame is a packet that the guest sent.
type Frame struct {
	Port uint16 // index in the machine's list of ports
	Data []byte // virtio header and frame; part of the payload
}

// Output is a payload of [TypeOutput]: frames in the order in which the guest
// sent them, each a u16 port, a u32 length and the bytes.
//
// It is an iterator over its payload and good as long as that is.
type Output struct {
	rest   []byte
	frames int
}

// DecodeOutput checks all of p and allocates nothing.
func DecodeOutput(p []byte) (Output, error) {
	f := fields{rest: p}
	n := 0
	for len(f.rest) > 0 && f.err == nil {
		f.u16()
		size := f.u32()
		if f.err == nil && size > MaxFrame {
			f.err = fmt.Errorf("%w: frame of %d bytes, at most %d", ErrMalformed, size, MaxFrame)
		}
		f.take(int(size))
		n++
	}
	if err := f.end(TypeOutput); err != nil {
		return Output{}, err
	}
	return Output{rest: p, frames: n}, nil
}

// Len is how many frames are left.
func (o *Output) Len() int { return o.frames }

// Next gives the next frame, and false after the last.
func (o *Output) Next() (Frame, bool) {
	if o.frames == 0 {
		return Frame{}, false
	}
	end := outputHead + int(binary.BigEndian.Uint32(o.rest[2:]))
	f := Frame{Port: binary.BigEndian.Uint16(o.rest), Data: o.rest[outputHead:end:end]}
	o.rest = o.rest[end:]
	o.frames--
	return f, true
}

// An OutputBatch collects frames for one payload. It copies them. The zero
// value is ready; it is not safe for concurrent use. Reuse it with Reset, and
// it stops allocating.
type OutputBatch struct {
	payload []byte
	frames  int
}

// Reset empties the batch.
func (b *OutputBatch) Reset() { b.payload, b.frames = b.payload[:0], 0 }

// Frame adds a frame. [ErrFull] if there is no room.
func (b *OutputBatch) Frame(port uint16, data []byte) error {
	if len(data) > MaxFrame {
		return fmt.Errorf("replica: output frame of %d bytes, at most %d", len(data), MaxFrame)
	}
	if len(b.payload)+outputHead+len(data) > MaxPayload {
		return ErrFull
	}
	b.payload = binary.BigEndian.AppendUint16(b.payload, port)
	b.payload = binary.BigEndian.AppendUint32(b.payload, uint32(len(data)))
	b.payload = append(b.payload, data...)
	b.frames++
	return nil
}

// Len is how many frames the batch holds.
func (b *OutputBatch) Len() int { return b.frames }

// Payload is the payload, good until the batch is touched again.
func (b *OutputBatch) Payload() []byte { return b.payload }
