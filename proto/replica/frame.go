package replica

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
)

const (
	magic   = 0x53504654 // "SPFT"
	version = 1
	// HeaderSize is the length of a frame's header in bytes.
	HeaderSize = 32
	// MaxPayload is the longest payload of any type, in bytes.
	MaxPayload = 4 << 20

	checksumAt = 12
	bufferSize = 64 << 10
)

var (
	// ErrMalformed is in the error of everything that breaks the format.
	ErrMalformed = errors.New("malformed frame")
	// ErrChecksum says that a frame was changed on its way.
	ErrChecksum = errors.New("wrong checksum")
	// ErrTooLong says that a payload is over its type's limit.
	ErrTooLong = errors.New("payload too long")
)

// castagnoli is a constant in all but name.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Header introduces a frame.
type Header struct {
	Type       Type
	Flags      uint16 // none so far; carried, not interpreted
	Length     uint32 // bytes of payload; set by Writer.Write
	Epoch      uint64 // which one the frame is about, 0 if none
	Generation uint64 // of the pair, as the arbiter counts
}

// put encodes h with a checksum of zero.
func (h Header) put(b *[HeaderSize]byte) {
	binary.BigEndian.PutUint32(b[0:], magic)
	b[4], b[5] = version, byte(h.Type)
	binary.BigEndian.PutUint16(b[6:], h.Flags)
	binary.BigEndian.PutUint32(b[8:], h.Length)
	binary.BigEndian.PutUint32(b[checksumAt:], 0)
	binary.BigEndian.PutUint64(b[16:], h.Epoch)
	binary.BigEndian.PutUint64(b[24:], h.Generation)
}

// parseHeader checks all that can be checked before the payload is there.
func parseHeader(b *[HeaderSize]byte) (Header, error) {
	if m := binary.BigEndian.Uint32(b[0:]); m != magic {
		return Header{}, fmt.Errorf("%w: magic %#x", ErrMalformed, m)
	}
	if b[4] != version {
		return Header{}, fmt.Errorf("%w: version %d", ErrMalformed, b[4])
	}
	h := Header{
		Type:       Type(b[5]),
		Flags:      binary.BigEndian.Uint16(b[6:]),
		Length:     binary.BigEndian.Uint32(b[8:]),
		Epoch:      binary.BigEndian.Uint64(b[16:]),
		Generation: binary.BigEndian.Uint64(b[24:]),
	}
	return h, h.check()
}

func (h Header) check() error {
	if !h.Type.known() {
		return fmt.Errorf("%w: %v", ErrMalformed, h.Type)
	}
	if limit := h.Type.Limit(); uint64(h.Length) > uint64(limit) {
		return fmt.Errorf("%w: %v of %d bytes, at most %d", ErrTooLong, h.Type, h.Length, limit)
	}
	return nil
}

// A Writer writes frames. It is not safe for concurrent use.
type Writer struct {
	w      io.Writer
	header [HeaderSize]byte
	parts  [][]byte    // kept for its capacity
	rest   net.Buffers // of parts, eaten up while writing
}

// NewWriter writes to w. A TCP or Unix connection gets each frame in one
// system call where the kernel takes it; give it no buffer in between.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes one frame, whose payload is the parts one after another. They
// are neither copied nor kept nor changed. h.Length is ignored. After an error
// other than [ErrTooLong] and [ErrMalformed] part of the frame may be out:
// close the connection.
func (w *Writer) Write(h Header, parts ...[]byte) error {
	total := uint64(0)
	for _, p := range parts {
		total += uint64(len(p))
	}
	h.Length = uint32(min(total, MaxPayload+1))
	if err := h.check(); err != nil {
		return fmt.Errorf("replica: write %v: %w", h.Type, err)
	}
	h.put(&w.header)
	sum := crc32.Update(0, castagnoli, w.header[:])
	w.parts = append(w.parts[:0], w.header[:])
	for _, p := range parts {
		if len(p) > 0 {
			sum = crc32.Update(sum, castagnoli, p)
			w.parts = append(w.parts, p)
		}
	}
	binary.BigEndian.PutUint32(w.header[checksumAt:], sum)
	return w.send(h.Type)
}

func (w *Writer) send(t Type) error {
	w.rest = w.parts
	_, err := w.rest.WriteTo(w.w)
	clear(w.parts) // hold on to nobody's memory
	if err != nil {
		return fmt.Errorf("replica: write %v: %w", t, err)
	}
	return nil
}

// A Reader reads frames. It is not safe for concurrent use.
type Reader struct {
	buf     *bufio.Reader
	header  [HeaderSize]byte
	payload []byte
	err     error // the first one; the place in the stream is lost after it
}

// NewReader reads from r, through a small buffer.
func NewReader(r io.Reader) *Reader {
	return &Reader{buf: bufio.NewReaderSize(r, bufferSize)}
}

// Next reads a frame. The payload is good until the next call; its buffer
// grows up to the longest payload seen. [io.EOF] as such means that the
// connection ended between two frames. Once Next has failed, a deadline
// included, it fails for ever with the same error.
func (r *Reader) Next() (Header, []byte, error) {
	if r.err != nil {
		return Header{}, nil, r.err
	}
	h, err := r.next()
	if err != nil {
		if err != io.EOF {
			err = fmt.Errorf("replica: read a frame: %w", err)
		}
		r.err = err
		return Header{}, nil, err
	}
	return h, r.payload, nil
}

func (r *Reader) next() (Header, error) {
	if _, err := io.ReadFull(r.buf, r.header[:]); err != nil {
		return Header{}, err
	}
	h, err := parseHeader(&r.header)
	if err != nil {
		return Header{}, err
	}
	if uint64(cap(r.payload)) < uint64(h.Length) {
		r.payload = make([]byte, h.Length)
	}
	r.payload = r.payload[:h.Length]
	if err := r.body(); err != nil {
		return Header{}, fmt.Errorf("%v: %w", h.Type, err)
	}
	return h, nil
}

func (r *Reader) body() error {
	if _, err := io.ReadFull(r.buf, r.payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	sum := binary.BigEndian.Uint32(r.header[checksumAt:])
	clear(r.header[checksumAt : checksumAt+4])
	own := crc32.Update(0, castagnoli, r.header[:])
	if own = crc32.Update(own, castagnoli, r.payload); own != sum {
		return ErrChecksum
	}
	return nil
}
