package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func joined(parts [][]byte) []byte { return slices.Concat(parts...) }

// goldenPacked stands for six pages: one that the standby has, one of zeros that
// it has too, and the four that are described.
func goldenPacked() (PackedBatch, []piece) {
	var b PackedBatch
	b.Kept(false)
	b.Kept(true)
	base, page := bytes.Repeat([]byte{7}, PageSize), bytes.Repeat([]byte{7}, PageSize)
	page[8*300], page[8*301+7], page[PageSize-1] = 1, 2, 3
	other := bytes.Repeat([]byte{8}, PageSize)
	for _, err := range []error{
		b.Zero(2047, 1<<40), b.Page(0, 0, bytes.Repeat([]byte{0xa1}, PageSize)),
		b.Change(5, PageSize, base, page), b.Change(5, 2*PageSize, base, other),
	} {
		if err != nil {
			panic(err)
		}
	}
	return b, []piece{
		x("method", "00"), x("pages", "00 00 00 06"), x("zero pages", "00 00 00 02"), x("descriptors", "00 00 00 04"),
		x("zero page at 1 TiB of block 2047", "00 10 00 00 00 ff e0 00"),
		x("page 0 of block 0, as it is", "00 00 00 00 00 00 10 00"),
		x("page 1 of block 5, 30 bytes of delta", "00 00 00 00 01 00 a0 1e"),
		x("page 2 of block 5, as it is", "00 00 00 00 02 00 b0 00"),
		fill("data", 0xa1, PageSize),
		x("255 words kept", "ff 00"), x("45 words kept, 2 new", "2d 02"),
		x("word", "01 07 07 07 07 07 07 07"), x("word", "07 07 07 07 07 07 07 02"),
		x("209 words kept, 1 new", "d1 01"), x("word", "07 07 07 07 07 07 07 03"),
		fill("data", 8, PageSize),
	}
}

func TestGoldenPacked(t *testing.T) {
	b, want := goldenPacked()
	compare(t, joined(b.Parts()), want)
}

// TestGoldenPackedCompressed: what an S2 block says is its library's affair, but
// it must be read for ever.
func TestGoldenPackedCompressed(t *testing.T) {
	var p Packed
	block := slices.Concat(
		x("method", "01").bytes, x("pages", "00 00 00 01").bytes, x("zero pages", "00 00 00 00").bytes, x("descriptors", "00 00 00 01").bytes,
		x("page 0 of block 0", "00 00 00 00 00 00 10 00").bytes,
		x("4096 bytes", "80 20").bytes, x("one byte", "00 a5").bytes,
		x("8 of the byte before", "11 01").bytes, x("and as before, 4087", "19 00 f3 0e").bytes)
	if err := p.Open(block); err != nil {
		t.Fatal(err)
	}
	page := make([]byte, PageSize)
	applyAll(&p, func(int, uint64) []byte { return page })
	if !bytes.Equal(page, bytes.Repeat([]byte{0xa5}, PageSize)) {
		t.Fatalf("got % x ...", page[:16])
	}
}

func applyAll(p *Packed, at func(block int, offset uint64) []byte) {
	changes := p.Changes()
	for c, ok := changes.Next(); ok; c, ok = changes.Next() {
		c.Apply(at(c.Block, c.Offset))
	}
}

// memory is some pages of one block, which change like a guest's.
type memory struct {
	pages [][]byte
	rand  *rand.Rand
}

func newMemory(pages int, seed uint64) *memory {
	m := &memory{rand: rand.New(rand.NewPCG(seed, 1))}
	for range pages {
		m.pages = append(m.pages, make([]byte, PageSize))
	}
	return m
}

func (m *memory) clone() [][]byte {
	var c [][]byte
	for _, p := range m.pages {
		c = append(c, bytes.Clone(p))
	}
	return c
}

// dirty changes a page: a few words, a stretch, all of it, to zeros or not at all.
func (m *memory) dirty(page []byte) {
	switch m.rand.IntN(8) {
	case 0:
		for i := range page {
			page[i] = byte(m.rand.Uint32())
		}
	case 1:
		clear(page)
	case 2:
		from := m.rand.IntN(PageSize)
		copy(page[from:], bytes.Repeat([]byte("packet"), m.rand.IntN(400)))
	case 3:
	default:
		for range 1 + m.rand.IntN(9) {
			binary.LittleEndian.PutUint64(page[8*m.rand.IntN(pageWords):], m.rand.Uint64N(1<<20))
		}
	}
}

// TestPackedPagesArriveWhole: epoch after epoch, both ways of sending, applied
// once and applied again.
func TestPackedPagesArriveWhole(t *testing.T) {
	m := newMemory(64, 1)
	primary, standby := m.clone(), m.clone()
	var b PackedBatch
	var p Packed
	for epoch := range 200 {
		b.Reset()
		for range 100 { // some pages more than once
			n := m.rand.IntN(len(m.pages))
			m.dirty(m.pages[n])
			if err := b.Change(0, uint64(n)*PageSize, primary[n], m.pages[n]); err != nil {
				t.Fatal(err)
			}
		}
		payload := joined(b.Parts())
		if epoch%2 == 0 {
			payload = joined(b.Compressed())
		}
		if err := p.Open(payload); err != nil {
			t.Fatal(err)
		}
		if p.Pages != 100 || p.ZeroPages != 0 || b.Len() != 100 {
			t.Fatalf("a batch of %d pages, %d of them zero", p.Pages, p.ZeroPages)
		}
		for range 2 {
			applyAll(&p, func(_ int, offset uint64) []byte { return standby[offset/PageSize] })
			for n := range standby {
				if !bytes.Equal(standby[n], m.pages[n]) || !bytes.Equal(primary[n], m.pages[n]) {
					t.Fatalf("epoch %d: page %d differs", epoch, n)
				}
			}
		}
	}
}

func TestAFewChangedBytesAreAFewBytes(t *testing.T) {
	base, page := make([]byte, PageSize), make([]byte, PageSize)
	if d := appendDelta(nil, base, page); len(d) != 0 {
		t.Errorf("%d bytes for nothing", len(d))
	}
	page[0], page[PageSize-1] = 1, 1
	if d := appendDelta(nil, base, page); len(d) != 2*(runHead+wordSize)+runHead {
		t.Errorf("%d bytes for two", len(d))
	}
}

func TestAFullPackedBatch(t *testing.T) {
	var b PackedBatch
	page, base := bytes.Repeat([]byte{1}, PageSize), make([]byte, PageSize)
	for b.Page(0, 0, page) == nil {
	}
	if err := b.Change(0, 0, base, page); !errors.Is(err, ErrFull) || base[0] != 0 {
		t.Fatalf("got %v and %d in what the standby has", err, base[0])
	}
	for b.Zero(0, 0) == nil {
	}
	base = bytes.Clone(page)
	base[0] = 0
	if err := b.Change(0, 0, base, page); !errors.Is(err, ErrFull) || base[0] != 0 {
		t.Fatalf("got %v and %d in what the standby has", err, base[0])
	}
	if n := len(joined(b.Parts())); n > MaxPayload {
		t.Errorf("a payload of %d bytes", n)
	}
	if err := new(Packed).Open(joined(b.Compressed())); err != nil {
		t.Error(err)
	}
}

func TestPackedIsChecked(t *testing.T) {
	b, _ := goldenPacked()
	good := joined(b.Parts())
	const descriptors = packedHead
	delta := len(good) - PageSize - 30
	spoil := func(at int, c byte) []byte {
		p := bytes.Clone(good)
		p[at] = c
		return p
	}
	b.Reset()
	if err := b.Page(0, 0, make([]byte, PageSize)); err != nil {
		t.Fatal(err)
	}
	compressed := joined(b.Compressed())
	for name, payload := range map[string][]byte{
		"nothing":                         nil,
		"a method that is not known":      spoil(0, 2),
		"plain data as compressed":        spoil(0, 1),
		"fewer pages than described":      spoil(4, 3),
		"fewer zero pages than described": spoil(8, 0),
		"more zero pages than pages":      spoil(8, 7),
		"more descriptors than bytes":     spoil(9, 1),
		"a page longer than a page":       spoil(descriptors+15, 1),
		"shorter data than described":     good[:len(good)-1],
		"longer data than described":      append(bytes.Clone(good), 0),
		"a run past the page":             spoil(delta+2, 255),
		"a run past the delta":            spoil(delta+21, 9),
		"half a run":                      spoil(delta+20+1, 0),
		"a block of another length":       append(bytes.Clone(compressed[:packedHead+descriptorSize]), 0x80, 0x40, 0),
		"a block that breaks off":         compressed[:len(compressed)-1],
	} {
		if err := new(Packed).Open(payload); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want %v", name, err, ErrMalformed)
		}
	}
	if err := new(Packed).Open(good); err != nil {
		t.Error(err)
	}
}

// FuzzDelta makes a delta of any two pages.
func FuzzDelta(f *testing.F) {
	f.Add([]byte{}, []byte{1})
	f.Add([]byte("the same, then not"), []byte("the same, then no"))
	f.Add(bytes.Repeat([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0}, 455), make([]byte, PageSize))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		base, page := make([]byte, PageSize), make([]byte, PageSize)
		copy(base, a)
		copy(page, b)
		d := appendDelta(nil, base, page)
		if len(d) >= PageSize {
			return
		}
		if err := checkDelta(d); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if applyDelta(base, d); !bytes.Equal(base, page) {
				t.Fatal("another page came out")
			}
		}
	})
}

// FuzzPacked opens anything, applies what passes and packs it again.
func FuzzPacked(f *testing.F) {
	b, _ := goldenPacked()
	f.Add(joined(b.Parts()))
	f.Add(joined(b.Compressed()))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var p Packed
		if err := p.Open(payload); err != nil {
			return
		}
		var again PackedBatch
		page, base := make([]byte, PageSize), make([]byte, PageSize)
		changes := p.Changes()
		for c, ok := changes.Next(); ok; c, ok = changes.Next() {
			c.Apply(page)
			if c.Block >= MaxBlocks || c.Offset%PageSize != 0 {
				t.Fatalf("page at %#x of block %d", c.Offset, c.Block)
			}
			if err := again.Change(c.Block, c.Offset, base, page); err != nil && !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
		}
		if err := new(Packed).Open(joined(again.Compressed())); err != nil {
			t.Fatal(err)
		}
	})
}

// A packing is a batch of pages that change, on its way, reused. In each page a
// tenth of the words changes, or one.
type packing struct {
	page    [2][]byte
	shadow  []byte
	batch   PackedBatch
	payload []byte
	opened  Packed
	turn    int
}

func newPacking() *packing {
	p := &packing{shadow: make([]byte, benchPages*PageSize)}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range p.page {
		p.page[i] = make([]byte, benchPages*PageSize)
	}
	for at := 0; at < len(p.page[0]); at += wordSize {
		v := r.Uint64N(1 << 12)
		binary.LittleEndian.PutUint64(p.page[0][at:], v)
		if at/PageSize%2 == 0 && r.IntN(10) == 0 || at%PageSize == 512 {
			v++
		}
		binary.LittleEndian.PutUint64(p.page[1][at:], v)
	}
	return p
}

func (p *packing) pack(t testing.TB, compress bool) {
	p.batch.Reset()
	p.turn++
	pages := p.page[p.turn%2]
	for at := 0; at < len(pages); at += PageSize {
		if err := p.batch.Change(0, uint64(at), p.shadow[at:at+PageSize], pages[at:at+PageSize]); err != nil {
			t.Fatal(err)
		}
	}
	parts := p.batch.Parts()
	if compress {
		parts = p.batch.Compressed()
	}
	p.payload = p.payload[:0]
	for _, part := range parts {
		p.payload = append(p.payload, part...)
	}
}

func (p *packing) open(t testing.TB, into []byte) {
	if err := p.opened.Open(p.payload); err != nil {
		t.Fatal(err)
	}
	changes := p.opened.Changes()
	for c, ok := changes.Next(); ok; c, ok = changes.Next() {
		c.Apply(into[c.Offset : c.Offset+PageSize])
	}
}

func TestPackingAllocatesNothing(t *testing.T) {
	for _, compress := range []bool{false, true} {
		p, into := newPacking(), make([]byte, benchPages*PageSize)
		there := func() { p.pack(t, compress); p.open(t, into) }
		there()
		there()
		if n := testing.AllocsPerRun(20, there); n != 0 {
			t.Errorf("%v allocations for %d pages there and back", n, benchPages)
		}
		if !bytes.Equal(into, p.shadow) {
			t.Error("other pages came out")
		}
	}
}

func BenchmarkPack(b *testing.B) {
	p := newPacking()
	b.SetBytes(benchPages * PageSize)
	b.ReportAllocs()
	for b.Loop() {
		p.pack(b, true)
	}
	b.ReportMetric(float64(len(p.payload))/(benchPages*PageSize), "ratio")
}

func BenchmarkOpen(b *testing.B) {
	p, into := newPacking(), make([]byte, benchPages*PageSize)
	p.pack(b, true)
	p.pack(b, true)
	b.SetBytes(benchPages * PageSize)
	b.ReportAllocs()
	for b.Loop() {
		p.open(b, into)
	}
}
