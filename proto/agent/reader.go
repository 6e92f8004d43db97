package agent

import (
	"bytes"
	"fmt"
	"io"
)

// bufferSize holds a few of the longest frames; it never grows.
const bufferSize = 4096

// A Reader reads frames and skips what is none. It is not safe for concurrent
// use.
type Reader struct {
	r          io.Reader
	buf        [bufferSize]byte
	start, end int
	skipped    uint64
}

// NewReader reads from r through a fixed buffer of its own.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Skipped is how many bytes belonged to no frame so far.
func (r *Reader) Skipped() uint64 { return r.skipped }

// Buffered is how many bytes were read and not used yet.
func (r *Reader) Buffered() int { return r.end - r.start }

// Next returns the next good frame; the payload is valid until the next call.
// It fails only when reading fails, and can be called again then: bytes of a
// frame that was not complete are kept.
func (r *Reader) Next() (Header, []byte, error) {
	for {
		h, payload, ok := r.scan()
		if ok {
			return h, payload, nil
		}
		if err := r.fill(); err != nil {
			return Header{}, nil, err
		}
	}
}

// scan looks for a complete frame in the buffer and drops what cannot be part
// of one.
func (r *Reader) scan() (Header, []byte, bool) {
	for {
		r.seek()
		b := r.buf[r.start:r.end]
		if len(b) < HeaderSize {
			return Header{}, nil, false
		}
		h, length, err := parseHeader(b)
		if err != nil {
			r.skip(1)
			continue
		}
		if len(b) < HeaderSize+length {
			return Header{}, nil, false
		}
		payload := b[HeaderSize : HeaderSize+length]
		if !payloadOK(b, payload) {
			r.skip(1)
			continue
		}
		r.start += HeaderSize + length
		return h, payload, true
	}
}

// seek skips to the next byte that could begin a header.
func (r *Reader) seek() {
	b := r.buf[r.start:r.end]
	at := bytes.IndexByte(b, magic>>24)
	if at < 0 {
		at = len(b)
	}
	r.skip(at)
}

func (r *Reader) skip(n int) {
	r.start += n
	r.skipped += uint64(n)
}

// fill reads once. There is always room: a frame is smaller than the buffer.
func (r *Reader) fill() error {
	if r.start > 0 {
		r.end = copy(r.buf[:], r.buf[r.start:r.end])
		r.start = 0
	}
	n, err := r.r.Read(r.buf[r.end:])
	r.end += max(n, 0)
	if n > 0 || err == nil {
		return nil // the error, if any, comes again
	}
	if err == io.EOF {
		return io.EOF
	}
	return fmt.Errorf("read agent channel: %w", err)
}
