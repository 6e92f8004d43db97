package replica

import (
	"bytes"
	"io"
	"testing"
)

const benchPages = 256

// A shipment is everything that one page batch needs on its way, reused.
type shipment struct {
	memory []byte
	batch  PageBatch
	wire   bytes.Buffer
	w      *Writer
	src    bytes.Reader
	r      *Reader
}

func newShipment() *shipment {
	s := &shipment{memory: make([]byte, 2*benchPages*PageSize)}
	s.w, s.r = NewWriter(&s.wire), NewReader(&s.src)
	return s
}

// send writes every other page, so that none are neighbours.
func (s *shipment) send(t testing.TB) {
	s.batch.Reset()
	s.wire.Reset()
	for i := range benchPages {
		offset := 2 * i * PageSize
		if err := s.batch.Page(0, uint64(offset), s.memory[offset:offset+PageSize]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.w.Write(Header{Type: TypePages, Epoch: 1}, s.batch.Parts()...); err != nil {
		t.Fatal(err)
	}
}

func (s *shipment) receive(t testing.TB) {
	s.src.Reset(s.wire.Bytes())
	s.r.buf.Reset(&s.src)
	_, p, err := s.r.Next()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := DecodePages(p)
	if err != nil {
		t.Fatal(err)
	}
	for page, ok := pages.Next(); ok; page, ok = pages.Next() {
		copy(s.memory[page.Offset:], page.Data)
	}
}

func TestPageBatchAllocatesNothing(t *testing.T) {
	s := newShipment()
	if n := testing.AllocsPerRun(20, func() { s.send(t); s.receive(t) }); n != 0 {
		t.Errorf("%v allocations for %d pages there and back", n, benchPages)
	}
}

func BenchmarkWritePages(b *testing.B) {
	s := newShipment()
	b.SetBytes(benchPages * PageSize)
	b.ReportAllocs()
	for b.Loop() {
		s.send(b)
	}
}

func BenchmarkReadPages(b *testing.B) {
	s := newShipment()
	s.send(b)
	b.SetBytes(benchPages * PageSize)
	b.ReportAllocs()
	for b.Loop() {
		s.receive(b)
	}
}

func BenchmarkOutput(b *testing.B) {
	var batch OutputBatch
	w, packet := NewWriter(io.Discard), make([]byte, 1500)
	b.SetBytes(64 * 1500)
	b.ReportAllocs()
	for b.Loop() {
		batch.Reset()
		for range 64 {
			if err := batch.Frame(1, packet); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Write(Header{Type: TypeOutput}, batch.Payload()); err != nil {
			b.Fatal(err)
		}
	}
}
