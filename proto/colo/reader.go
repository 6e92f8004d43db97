package colo

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

const bufferSize = 1 << 20

// A Reader takes apart what the primary's QEMU sends. It is not safe for
// concurrent use. After an error its place in the stream is lost, and only
// closing the channel is left to do.
//
// An error that contains [io.EOF] means that the channel ended between two
// messages; [io.ErrUnexpectedEOF] that it ended inside something. Errors of
// the underlying reader (deadlines, say) are passed on, wrapped.
type Reader struct {
	buf     *bufio.Reader
	limits  Limits
	section Section
	started bool // the RAM section has been seen
	blocks  []Block
	index   map[string]int // by name, into blocks
	current int            // block of the last page record, -1 before the first
	// addressed: each RAM block's size is followed by its guest address,
	// because x-ignore-shared is on.
	addressed bool
	consumed  uint64 // bytes, for error messages
	ending    bool   // the section being read ends the first copy
	scratch   [256]byte
}

// NewReader reads from r, through a buffer of 1 MiB.
func NewReader(r io.Reader, limits Limits) *Reader { return newReader(r, limits, bufferSize) }

func newReader(r io.Reader, limits Limits, buffer int) *Reader {
	return &Reader{buf: bufio.NewReaderSize(r, buffer), limits: limits, current: -1}
}

// Header reads the start of a migration stream: file header and
// configuration. It returns when the byte after them has arrived as well.
func (r *Reader) Header() (Header, error) {
	h, err := r.header()
	return h, r.failed("read the header", err)
}

// Initial reads the RAM sections of the migration that opens the channel, up
// to and including the type byte of the first device section. What follows is
// device state, which cannot be taken apart without knowing every device:
// drain the channel, then call Reset.
func (r *Reader) Initial(s Sink) error {
	err := r.sections(s, sectionFull)
	if err == nil && r.blocks == nil {
		err = malformed("no RAM blocks")
	}
	return r.failed("read the initial memory", err)
}

// Live reads the memory of one checkpoint, up to and including its end of
// file byte. It allocates nothing.
func (r *Reader) Live(s Sink) error {
	return r.failed("read the checkpoint's memory", r.sections(s, sectionEOF))
}

// Message reads the next message.
func (r *Reader) Message() (Message, error) {
	m, err := r.message()
	return m, r.failed("read a message", err)
}

// Expect reads the next message, and fails with [ErrMalformed] unless it is m.
func (r *Reader) Expect(m Message) error {
	if err := r.expect(m); err != nil {
		return r.failed("wait for "+m.String(), err)
	}
	return nil
}

// DeviceSize reads VMStateSize and the size of the device state in bytes, which
// comes next. QEMU has copied memory and devices by then (migration/colo.c,
// colo_do_checkpoint_transaction): what is left is in its buffer.
func (r *Reader) DeviceSize() (size uint64, err error) {
	size, err = r.deviceSize()
	return size, r.failed("read the size of the device state", err)
}

// Device reads so many bytes of device state and appends them to dst. The result
// is dst grown, also after an error.
func (r *Reader) Device(dst []byte, size uint64) ([]byte, error) {
	start := len(dst)
	dst = slices.Grow(dst, int(size))[:start+int(size)]
	return dst, r.failed("read the device state", r.full(dst[start:]))
}

// DeviceState is DeviceSize and Device.
func (r *Reader) DeviceState(dst []byte) ([]byte, error) {
	size, err := r.DeviceSize()
	if err != nil {
		return dst, err
	}
	return r.Device(dst, size)
}

// Section is the RAM section as Initial found it.
func (r *Reader) Section() Section { return r.section }

// Ending says, while a sink is called by Initial, that the page was sent with the
// guest stopped: it is part of the section that ends the copy.
func (r *Reader) Ending() bool { return r.ending }

// Buffered is how many bytes have been read from the channel and not yet
// taken apart.
func (r *Reader) Buffered() int { return r.buf.Buffered() }

// Reset drops what is buffered and reads on from src. Everything learned of
// the stream (RAM section, block list, the block of the last page) is kept,
// as QEMU keeps it.
func (r *Reader) Reset(src io.Reader) { r.buf.Reset(src) }

func (r *Reader) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("colo: %s (after %d bytes): %w", op, r.consumed, err)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func (r *Reader) message() (Message, error) {
	n, err := io.ReadFull(r.buf, r.scratch[:4])
	r.consumed += uint64(n)
	if err != nil {
		return 0, err // a bare EOF here is a channel closed between messages
	}
	m := Message(binary.BigEndian.Uint32(r.scratch[:4]))
	if !m.known() {
		return m, malformed("%v", m)
	}
	return m, nil
}

func (r *Reader) expect(want Message) error {
	m, err := r.message()
	if err == nil && m != want {
		err = malformed("%v instead of %v", m, want)
	}
	return err
}

func (r *Reader) deviceSize() (uint64, error) {
	if err := r.expect(VMStateSize); err != nil {
		return 0, err
	}
	size, err := r.u64()
	if err == nil && size > r.limits.DeviceState {
		err = fmt.Errorf("%w: device state of %d bytes, at most %d", ErrLimit, size, r.limits.DeviceState)
	}
	return size, err
}

// full fills b. The stream ending here is always unexpected.
func (r *Reader) full(b []byte) error {
	n, err := io.ReadFull(r.buf, b)
	r.consumed += uint64(n)
	if err == io.EOF && len(b) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (r *Reader) u8() (byte, error) {
	err := r.full(r.scratch[:1])
	return r.scratch[0], err
}

func (r *Reader) u16() (uint16, error) {
	err := r.full(r.scratch[:2])
	return binary.BigEndian.Uint16(r.scratch[:]), err
}

func (r *Reader) u32() (uint32, error) {
	err := r.full(r.scratch[:4])
	return binary.BigEndian.Uint32(r.scratch[:]), err
}

func (r *Reader) u64() (uint64, error) {
	err := r.full(r.scratch[:8])
	return binary.BigEndian.Uint64(r.scratch[:]), err
}

// counted reads a string with a length byte. It is good until the next read.
func (r *Reader) counted() ([]byte, error) {
	n, err := r.u8()
	if err != nil {
		return nil, err
	}
	b := r.scratch[:n]
	return b, r.full(b)
}

// want reads a u32 that can only have one value.
func (r *Reader) want(what string, v uint32) error {
	got, err := r.u32()
	if err == nil && got != v {
		err = malformed("%s is %#x instead of %#x", what, got, v)
	}
	return err
}

// skip passes over n bytes.
func (r *Reader) skip(n int) error {
	n, err := r.buf.Discard(n)
	r.consumed += uint64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
