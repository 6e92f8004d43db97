package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

func frameBytes(t testing.TB, h Header, parts ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := NewWriter(&b).Write(h, parts...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func golden(t testing.TB) []byte {
	payload := x("", "0001 00000004").bytes
	return frameBytes(t, Header{Type: TypeOutput, Epoch: 7, Generation: 3}, payload, nil, []byte("ping"))
}

func TestFrame(t *testing.T) {
	b := golden(t)
	compare(t, b, goldenFrame)
	r := NewReader(bytes.NewReader(b))
	h, p, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if want := (Header{Type: TypeOutput, Length: 10, Epoch: 7, Generation: 3}); h != want {
		t.Errorf("header %+v, want %+v", h, want)
	}
	if !bytes.Equal(p, b[HeaderSize:]) {
		t.Errorf("payload % x", p)
	}
	for range 2 {
		if _, _, err := r.Next(); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestFramesFollowEachOther(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	payloads := []string{"first", "the second is longer", "", "4"}
	for i, p := range payloads {
		if err := w.Write(Header{Type: TypeDevice, Flags: 1, Epoch: uint64(i)}, []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(&b)
	for i, want := range payloads {
		h, p, err := r.Next()
		if err != nil || string(p) != want || h.Epoch != uint64(i) || h.Flags != 1 {
			t.Errorf("frame %d: %+v %q %v", i, h, p, err)
		}
	}
}

func TestFrameTruncatedAtEveryByte(t *testing.T) {
	b := golden(t)
	for n := 1; n < len(b); n++ {
		if _, _, err := NewReader(bytes.NewReader(b[:n])).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at byte %d: %v", n, err)
		}
	}
}

// The longest pages frame would take half a minute; this one has every field.
func TestEveryBitFlipIsDetected(t *testing.T) {
	var pages PageBatch
	if err := errors.Join(pages.Page(0, 0, make([]byte, PageSize)), pages.Zero(1, PageSize)); err != nil {
		t.Fatal(err)
	}
	frames := [][]byte{
		golden(t),
		frameBytes(t, Header{Type: TypeAck, Epoch: 1 << 40}),
		frameBytes(t, Header{Type: TypePages, Flags: 0xffff}, pages.Parts()...),
	}
	for _, g := range goldenPayloads() {
		frames = append(frames, frameBytes(t, Header{Type: g.t}, g.value.Append(nil)))
	}
	for _, b := range frames {
		// More may follow a frame, so a length that became larger finds bytes.
		tail := append(bytes.Clone(b), b...)
		for bit := range len(b) * 8 {
			tail[bit/8] ^= 1 << (bit % 8)
			if h, _, err := NewReader(bytes.NewReader(tail)).Next(); err == nil {
				t.Fatalf("bit %d of a frame of %d bytes: passed as %+v", bit, len(b), h)
			}
			tail[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestReaderSaysWhatIsWrong(t *testing.T) {
	cases := map[string]struct {
		at   int
		put  string
		want error
	}{
		"magic":          {0, "00", ErrMalformed},
		"version":        {4, "02", ErrMalformed},
		"type zero":      {5, "00", ErrMalformed},
		"type unknown":   {5, "c8", ErrMalformed},
		"over 4 MiB":     {8, "00 40 00 01", ErrTooLong},
		"all of 4 GiB":   {8, "ff ff ff ff", ErrTooLong},
		"type's limit":   {5, "0c", ErrTooLong},
		"epoch changed":  {16, "01", ErrChecksum},
		"packet changed": {HeaderSize + 6, "50", ErrChecksum},
	}
	for name, c := range cases {
		b := golden(t)
		copy(b[c.at:], x("", c.put).bytes)
		r := NewReader(bytes.NewReader(b))
		_, _, err := r.Next()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, _, again := r.Next(); again != err {
			t.Errorf("%s: then %v", name, again)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	cases := map[string]struct {
		t     Type
		parts [][]byte
		want  error
	}{
		"no type":          {0, nil, ErrMalformed},
		"unknown type":     {typeEnd, nil, ErrMalformed},
		"vacant type":      {TypeBye + 1, nil, ErrMalformed},
		"ack with payload": {TypeAck, [][]byte{{1}}, ErrTooLong},
		"over the limit":   {TypeBye, [][]byte{make([]byte, 1000), make([]byte, 25)}, ErrTooLong},
		"over 4 MiB":       {TypePages, [][]byte{make([]byte, MaxPayload), {1}}, ErrTooLong},
	}
	for name, c := range cases {
		if err := w.Write(Header{Type: c.t}, c.parts...); !errors.Is(err, c.want) || b.Len() > 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, b.Len())
		}
	}
	for typ := TypeHello; typ < typeEnd; typ++ {
		if !typ.known() {
			continue
		}
		if err := NewWriter(io.Discard).Write(Header{Type: typ}, make([]byte, typ.Limit())); err != nil {
			t.Errorf("%v at its limit: %v", typ, err)
		}
		if typ.Limit() > MaxPayload {
			t.Errorf("%v: limit %d", typ, typ.Limit())
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriterReportsTheConnection(t *testing.T) {
	if err := NewWriter(brokenPipe{}).Write(Header{Type: TypeAck}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
}

// The largest payload that a lying header can make the reader allocate.
func TestReaderAllocatesWithinTheLimit(t *testing.T) {
	b := golden(t)[:HeaderSize]
	b[5] = byte(TypeBye)
	binary.BigEndian.PutUint32(b[8:], uint32(TypeBye.Limit())+1)
	r := NewReader(bytes.NewReader(b))
	if _, _, err := r.Next(); !errors.Is(err, ErrTooLong) || cap(r.payload) > 0 {
		t.Errorf("%v, %d bytes allocated", err, cap(r.payload))
	}
}
