package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// PageSize is the unit of memory, in bytes.
	PageSize = 4096
	// MaxBlocks is how many RAM blocks a page can tell apart.
	MaxBlocks = 1 << 11

	descriptorSize = 8
	zeroFlag       = 1 << 11
	blockMask      = zeroFlag - 1
	offsetMask     = ^uint64(PageSize - 1)
)

// ErrFull says that a batch has no room for what was to be added: send it,
// reset it and add again.
var ErrFull = errors.New("batch is full")

// A Page is one page of a batch.
type Page struct {
	Block  int    // place in the block list
	Offset uint64 // bytes into the block, a multiple of PageSize
	Zero   bool   // all zeros: Data is nil
	Data   []byte // PageSize bytes of the payload; copy what is to be kept
}

// Pages is a payload of [TypePages]: a u32 count, a u64 per page (its offset,
// in the low 12 bits 0x800 for a zero page and the block), then the data of
// the pages that are not zero, in the same order.
//
// It is an iterator over its payload and good as long as that is.
type Pages struct {
	descriptors []byte
	data        []byte
}

// DecodePages checks all of p and allocates nothing. Whether block and offset
// exist is the caller's to check.
func DecodePages(p []byte) (Pages, error) {
	f := fields{rest: p}
	descriptors := f.take(f.count(descriptorSize) * descriptorSize)
	withData := 0
	for i := 0; i < len(descriptors); i += descriptorSize {
		if binary.BigEndian.Uint64(descriptors[i:])&zeroFlag == 0 {
			withData++
		}
	}
	data := f.take(withData * PageSize)
	if err := f.end(TypePages); err != nil {
		return Pages{}, err
	}
	return Pages{descriptors: descriptors, data: data}, nil
}

// Len is how many pages are left.
func (p *Pages) Len() int { return len(p.descriptors) / descriptorSize }

// Next gives the next page, and false after the last.
func (p *Pages) Next() (Page, bool) {
	if len(p.descriptors) < descriptorSize {
		return Page{}, false
	}
	v := binary.BigEndian.Uint64(p.descriptors)
	p.descriptors = p.descriptors[descriptorSize:]
	page := Page{Block: int(v & blockMask), Offset: v & offsetMask, Zero: v&zeroFlag != 0}
	if !page.Zero {
		page.Data = p.data[:PageSize:PageSize]
		p.data = p.data[PageSize:]
	}
	return page, true
}

// A PageBatch collects pages for one frame. It copies no page: the memory
// must stay as it is until the frame is written. The zero value is ready; it
// is not safe for concurrent use. Reuse it with Reset, and it stops
// allocating.
type PageBatch struct {
	head  []byte   // count and descriptors
	data  [][]byte // pages; neighbours in memory are one slice
	size  int      // bytes of data
	parts [][]byte
}

// Reset empties the batch.
func (b *PageBatch) Reset() {
	clear(b.data)
	clear(b.parts)
	b.head, b.data, b.parts, b.size = b.head[:0], b.data[:0], b.parts[:0], 0
}

// Page adds a page of PageSize bytes. [ErrFull] if there is no room.
func (b *PageBatch) Page(block int, offset uint64, page []byte) error {
	if len(page) != PageSize {
		return fmt.Errorf("replica: page of %d bytes", len(page))
	}
	if err := b.add(block, offset, 0, PageSize); err != nil {
		return err
	}
	b.size += PageSize
	if n := len(b.data); n > 0 && adjacent(b.data[n-1], page) {
		last := b.data[n-1]
		b.data[n-1] = last[:len(last)+PageSize]
		return nil
	}
	b.data = append(b.data, page)
	return nil
}

// Zero adds a page of zeros. [ErrFull] if there is no room.
func (b *PageBatch) Zero(block int, offset uint64) error { return b.add(block, offset, zeroFlag, 0) }

// Len is how many pages the batch holds.
func (b *PageBatch) Len() int { return max(len(b.head)-4, 0) / descriptorSize }

// Size is the length of the payload in bytes.
func (b *PageBatch) Size() int { return max(len(b.head), 4) + b.size }

// Parts is the payload, for [Writer.Write]. It is good until the batch is
// touched again.
func (b *PageBatch) Parts() [][]byte {
	b.start()
	binary.BigEndian.PutUint32(b.head, uint32(b.Len()))
	b.parts = append(append(b.parts[:0], b.head), b.data...)
	return b.parts
}

// Append appends the payload to dst.
func (b *PageBatch) Append(dst []byte) []byte {
	for _, p := range b.Parts() {
		dst = append(dst, p...)
	}
	return dst
}

func (b *PageBatch) start() {
	if len(b.head) == 0 {
		b.head = append(b.head, 0, 0, 0, 0)
	}
}

func (b *PageBatch) add(block int, offset, flag uint64, data int) error {
	if block < 0 || block >= MaxBlocks || offset&^offsetMask != 0 {
		return fmt.Errorf("replica: page at %#x of block %d", offset, block)
	}
	if b.Size()+descriptorSize+data > MaxPayload {
		return ErrFull
	}
	b.start()
	b.head = binary.BigEndian.AppendUint64(b.head, offset|flag|uint64(block))
	return nil
}

// adjacent says whether next lies in memory right after b, in one allocation.
func adjacent(b, next []byte) bool {
	if cap(b)-len(b) < len(next) {
		return false
	}
	return &b[:len(b)+1][len(b)] == &next[0]
}
