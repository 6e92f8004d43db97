package colo

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
)

const benchPages = 256

// pageSection is one section with n pages, then the end of file.
func pageSection(n int) []byte {
	b := join([]piece{x("section end", "03 00000002")})
	for i := range n {
		v := uint64(i*PageSize) | flagPage
		if i > 0 {
			b = binary.BigEndian.AppendUint64(b, v|flagContinue)
		} else {
			b = append(binary.BigEndian.AppendUint64(b, v), "\x04ram0"...)
		}
		b = append(b, bytes.Repeat([]byte{byte(i)}, PageSize)...)
	}
	return append(b, join([]piece{x("end, footer, end of file", "0000000000000010 7e 00000002 00")})...)
}

// prepared is a reader that knows a block "ram0" of n pages.
func prepared(n int, m *memory) *Reader {
	r := NewReader(bytes.NewReader(nil), DefaultLimits())
	r.section, r.started = Section{ID: 2, Version: 4}, true
	r.blocks, r.index = []Block{{"ram0", uint64(n) * PageSize}}, map[string]int{"ram0": 0}
	_ = m.Blocks(r.blocks)
	return r
}

func TestPagesAllocateNothing(t *testing.T) {
	m := &memory{}
	r, src, stream := prepared(benchPages, m), bytes.NewReader(nil), pageSection(benchPages)
	allocs := testing.AllocsPerRun(20, func() {
		src.Reset(stream)
		r.Reset(src)
		if err := r.Live(m); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for %d pages", allocs, benchPages)
	}
}

func TestDeviceStateAllocatesNothingIntoRoom(t *testing.T) {
	r, src := NewReader(nil, DefaultLimits()), bytes.NewReader(nil)
	stream, dst := join(goldenCheckpoint[9:]), make([]byte, 0, 64)
	allocs := testing.AllocsPerRun(20, func() {
		src.Reset(stream)
		r.Reset(src)
		if _, err := r.DeviceState(dst); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkLive(b *testing.B) {
	m := &memory{}
	r, src, stream := prepared(benchPages, m), bytes.NewReader(nil), pageSection(benchPages)
	b.SetBytes(benchPages * PageSize)
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(stream)
		r.Reset(src)
		if err := r.Live(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteIncoming(b *testing.B) {
	in := machine()
	in.Blocks[1].Size, in.Blocks[1].Data = 1<<20, make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if err := WriteIncoming(io.Discard, in); err != nil {
			b.Fatal(err)
		}
	}
}
