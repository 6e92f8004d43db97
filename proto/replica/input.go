package replica

import (
	"encoding/binary"
	"fmt"
)

// MaxInputBatch is the longest payload of frames that fits an input log frame.
const MaxInputBatch = MaxPayload - 8

// InputLog is frames that arrived for the machine, numbered one after the
// other from First. Numbers begin with 1 at each pair and never repeat in it.
type InputLog struct {
	First  uint64
	Frames Output
}

// AppendInputLogHead appends what comes before the frames of an [OutputBatch].
func AppendInputLogHead(b []byte, first uint64) []byte {
	return binary.BigEndian.AppendUint64(b, first)
}

// DecodeInputLog checks all of p and allocates nothing. The frames are good as
// long as p is.
func DecodeInputLog(p []byte) (InputLog, error) {
	if len(p) < 8 {
		return InputLog{}, fmt.Errorf("%w: %v of %d bytes", ErrMalformed, TypeInputLog, len(p))
	}
	m := InputLog{First: binary.BigEndian.Uint64(p)}
	var err error
	if m.Frames, err = DecodeOutput(p[8:]); err != nil {
		return InputLog{}, fmt.Errorf("%v: %w", TypeInputLog, err)
	}
	if m.First == 0 || m.First+uint64(m.Frames.Len()) < m.First {
		return InputLog{}, fmt.Errorf("%w: %v of frames from number %d", ErrMalformed, TypeInputLog, m.First)
	}
	return m, nil
}

// InputStored says that the standby holds every logged frame up to Number.
type InputStored struct{ Number uint64 }

// Append the payload.
func (m InputStored) Append(b []byte) []byte { return binary.BigEndian.AppendUint64(b, m.Number) }

// DecodeInputStored reads a payload of [TypeInputStored].
func DecodeInputStored(p []byte) (InputStored, error) {
	f := &fields{rest: p}
	m := InputStored{Number: f.u64()}
	return done(f, TypeInputStored, m)
}

// InputCut says which logged frames an epoch contains: those up to Upto, but
// for the last ones of some ports, which the guest had not taken in for
// certain. It comes before the end of its epoch.
type InputCut struct {
	Upto  uint64
	Tails []uint32 // for each port, in the order of the specification
}

// Append the payload.
func (m InputCut) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.Upto)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Tails)))
	for _, n := range m.Tails {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// DecodeInputCut reads a payload of [TypeInputCut].
func DecodeInputCut(p []byte) (InputCut, error) {
	f := &fields{rest: p}
	m := InputCut{Upto: f.u64()}
	n := f.count(4)
	for range n {
		m.Tails = append(m.Tails, f.u32())
	}
	return done(f, TypeInputCut, m)
}
