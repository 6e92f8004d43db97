package capture_test

import (
	"bytes"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

const dirtyPages = 1000

// reading takes one checkpoint after the other out of QEMU's stream.
type reading struct {
	reader *colo.Reader
	source bytes.Reader
	stream []byte
	epoch  capture.Epoch
}

func newReading(t testing.TB) *reading {
	r := &reading{reader: colo.NewReader(nil, colo.DefaultLimits()), stream: manyPages()}
	r.source.Reset(firstCopy(10).Bytes())
	r.reader.Reset(&r.source)
	if _, err := r.reader.Header(); err != nil {
		t.Fatal(err)
	}
	r.epoch.Reset(0, capture.Limit{Most: 2 * mainPages, Never: 2 * mainPages})
	if err := r.reader.Initial(&r.epoch); err != nil {
		t.Fatal(err)
	}
	return r
}

// manyPages of a checkpoint, one in eight of them zero.
func manyPages() []byte {
	s := new(stream)
	s.part(3)
	for i := range uint64(dirtyPages) {
		if offset := i % mainPages * pageSize; i%8 == 0 {
			s.zero("ram0", offset)
		} else {
			s.page("ram0", offset, 7)
		}
	}
	s.footer()
	s.put(0)
	return s.Bytes()
}

func (r *reading) checkpoint(t testing.TB) {
	r.source.Reset(r.stream)
	r.reader.Reset(&r.source)
	r.epoch.Reset(1, capture.Limit{Most: 1 << 20, Never: 1 << 20})
	if err := r.reader.Live(&r.epoch); err != nil {
		t.Fatal(err)
	}
	if r.epoch.Pages != dirtyPages {
		t.Fatalf("%d pages", r.epoch.Pages)
	}
}

// TestPagesAllocateNothing: once an epoch was as large.
func TestPagesAllocateNothing(t *testing.T) {
	r := newReading(t)
	r.checkpoint(t)
	if n := testing.AllocsPerRun(20, func() { r.checkpoint(t) }); n != 0 {
		t.Errorf("%v allocations for %d pages", n, dirtyPages)
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	r := newReading(b)
	b.SetBytes(dirtyPages * pageSize)
	b.ReportAllocs()
	for b.Loop() {
		r.checkpoint(b)
	}
}
