package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
)

// Methods of the data in a payload of [TypePacked].
const (
	methodPlain = iota
	methodS2    // an S2 block
)

const (
	packedHead = 1 + 4 + 4 + 4 // method, pages, zero pages, descriptors

	lengthBits = 13
	lengthMask = 1<<lengthBits - 1
	blockShift = lengthBits
	numberAt   = blockShift + 11
)

// A PackedBatch collects pages for one payload of [TypePacked]: a u8 method, a
// u32 number of the pages that it stands for, a u32 of the zero pages among
// them, and a u32 count of those that are in it; the others are at the standby
// already. Then for each page in it a u64: 40 bits of its number in the block,
// 11 of the block, 13 of the length of its data, which is 0 for a zero page,
// [PageSize] for a page as it is, and less for a delta against what the standby
// has. Then the data in the same order, as one block of the method: 0 as it is,
// 1 S2.
//
// It copies what it is given. The zero value is ready; it is not safe for
// concurrent use. Reuse it with Reset, and it stops allocating.
type PackedBatch struct {
	head        [packedHead]byte
	pages, zero uint32
	descriptors []byte
	data        []byte
	delta       []byte // of one page
	block       []byte // data, compressed
	parts       [3][]byte
}

// Reset empties the batch.
func (b *PackedBatch) Reset() {
	b.pages, b.zero = 0, 0
	b.descriptors, b.data = b.descriptors[:0], b.data[:0]
}

// Kept counts a page that the standby has already.
func (b *PackedBatch) Kept(zero bool) {
	b.pages++
	if zero {
		b.zero++
	}
}

// Zero adds a page of zeros. [ErrFull] if there is no room.
func (b *PackedBatch) Zero(block int, offset uint64) error {
	if err := b.add(block, offset, nil); err != nil {
		return err
	}
	b.Kept(true)
	return nil
}

// Page adds a page of PageSize bytes as it is. [ErrFull] if there is no room.
func (b *PackedBatch) Page(block int, offset uint64, page []byte) error {
	if len(page) != PageSize {
		return fmt.Errorf("replica: page of %d bytes", len(page))
	}
	if err := b.add(block, offset, page); err != nil {
		return err
	}
	b.Kept(false)
	return nil
}

// Change adds a page of PageSize bytes of which the standby has base, in the
// shortest form, and makes base the same as page. [ErrFull] if there is no room;
// base is as it was then.
func (b *PackedBatch) Change(block int, offset uint64, base, page []byte) error {
	if len(base) != PageSize || len(page) != PageSize {
		return fmt.Errorf("replica: page of %d bytes against one of %d", len(page), len(base))
	}
	b.delta = appendDelta(b.delta[:0], base, page)
	if len(b.delta) >= PageSize {
		if err := b.Page(block, offset, page); err != nil {
			return err
		}
		copy(base, page)
		return nil
	}
	if len(b.delta) > 0 {
		if err := b.add(block, offset, b.delta); err != nil {
			return err
		}
		applyDelta(base, b.delta)
	}
	b.Kept(false)
	return nil
}

// Len is how many pages the batch stands for.
func (b *PackedBatch) Len() int { return int(b.pages) }

// Parts is the payload, for [Writer.Write], with the data as it is. It is good
// until the batch is touched again.
func (b *PackedBatch) Parts() [][]byte { return b.payload(methodPlain, b.data) }

// Compressed is Parts with the data compressed, where that makes it shorter.
func (b *PackedBatch) Compressed() [][]byte {
	b.block = slices.Grow(b.block[:0], s2.MaxEncodedLen(len(b.data)))
	b.block = s2.Encode(b.block[:cap(b.block)], b.data)
	if len(b.block) >= len(b.data) {
		return b.Parts()
	}
	return b.payload(methodS2, b.block)
}

func (b *PackedBatch) payload(method byte, data []byte) [][]byte {
	b.head[0] = method
	binary.BigEndian.PutUint32(b.head[1:], b.pages)
	binary.BigEndian.PutUint32(b.head[5:], b.zero)
	binary.BigEndian.PutUint32(b.head[9:], uint32(len(b.descriptors)/descriptorSize))
	b.parts = [3][]byte{b.head[:], b.descriptors, data}
	return b.parts[:]
}

// add a descriptor and its data.
func (b *PackedBatch) add(block int, offset uint64, data []byte) error {
	number := offset / PageSize
	if block < 0 || block >= MaxBlocks || offset&^offsetMask != 0 || number >= 1<<(64-numberAt) {
		return fmt.Errorf("replica: page at %#x of block %d", offset, block)
	}
	if packedHead+len(b.descriptors)+descriptorSize+len(b.data)+len(data) > MaxPayload {
		return ErrFull
	}
	b.descriptors = binary.BigEndian.AppendUint64(b.descriptors, number<<numberAt|uint64(block)<<blockShift|uint64(len(data)))
	b.data = append(b.data, data...)
	return nil
}

// Packed is a received payload of [TypePacked], checked and not compressed any
// more, in memory of its own. The zero value is ready for Open.
type Packed struct {
	Pages, ZeroPages uint64 // that it stands for
	descriptors      []byte
	data             []byte
}

// Open takes over a payload, of which nothing is kept. Its memory is used again
// and grows up to [MaxPayload]. All is checked, so that its changes can be
// applied; whether block and offset exist is the caller's to check. After an
// error p is only good for another Open.
func (p *Packed) Open(payload []byte) error {
	f := fields{rest: payload}
	method := f.u8()
	p.Pages, p.ZeroPages = uint64(f.u32()), uint64(f.u32())
	p.descriptors = append(p.descriptors[:0], f.take(f.count(descriptorSize)*descriptorSize)...)
	data := f.take(len(f.rest))
	if f.err == nil {
		f.err = p.open(method, data)
	}
	return f.end(TypePacked)
}

func (p *Packed) open(method byte, data []byte) error {
	size, err := p.measure()
	if err != nil {
		return err
	}
	if err := p.unpack(method, data, size); err != nil {
		return err
	}
	changes := p.Changes()
	for c, ok := changes.Next(); ok; c, ok = changes.Next() {
		if len(c.data) == PageSize {
			continue
		}
		if err := checkDelta(c.data); err != nil {
			return err
		}
	}
	return nil
}

// measure adds up what the descriptors say, in bytes.
func (p *Packed) measure() (size int, err error) {
	var zero uint64
	for i := 0; i < len(p.descriptors); i += descriptorSize {
		length := int(binary.BigEndian.Uint64(p.descriptors[i:]) & lengthMask)
		if length > PageSize {
			return 0, fmt.Errorf("%w: page of %d bytes", ErrMalformed, length)
		}
		if length == 0 {
			zero++
		}
		size += length
	}
	described := uint64(len(p.descriptors) / descriptorSize)
	if p.ZeroPages > p.Pages || zero > p.ZeroPages || described-zero > p.Pages-p.ZeroPages {
		return 0, fmt.Errorf("%w: %d pages, %d of them zero, in a batch of %d and %d", ErrMalformed, described, zero, p.Pages, p.ZeroPages)
	}
	if most := MaxPayload - packedHead - len(p.descriptors); size > most {
		return 0, fmt.Errorf("%w: %d bytes of pages, at most %d", ErrMalformed, size, most)
	}
	return size, nil
}

// unpack data into p, which must come to exactly size bytes.
func (p *Packed) unpack(method byte, data []byte, size int) error {
	length, err := len(data), error(nil)
	switch method {
	case methodPlain:
	case methodS2:
		length, err = s2.DecodedLen(data)
	default:
		err = fmt.Errorf("method %d", method)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if length != size {
		return fmt.Errorf("%w: %d bytes of pages where %d are described", ErrMalformed, length, size)
	}
	if method == methodPlain {
		p.data = append(p.data[:0], data...)
		return nil
	}
	p.data = slices.Grow(p.data[:0], size)
	if p.data, err = s2.Decode(p.data, data); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// Size is how many bytes p holds on to.
func (p *Packed) Size() uint64 { return uint64(cap(p.descriptors) + cap(p.data)) }

// Changes are the pages that are in the batch. They are good until the next
// Open.
func (p *Packed) Changes() Changes { return Changes{p.descriptors, p.data} }

// Changes is an iterator over the pages of an opened batch.
type Changes struct{ descriptors, data []byte }

// Len is how many are left.
func (c *Changes) Len() int { return len(c.descriptors) / descriptorSize }

// Next gives the next one, and false after the last.
func (c *Changes) Next() (Change, bool) {
	if len(c.descriptors) < descriptorSize {
		return Change{}, false
	}
	v := binary.BigEndian.Uint64(c.descriptors)
	c.descriptors = c.descriptors[descriptorSize:]
	n := int(v & lengthMask)
	change := Change{Block: int(v >> blockShift & (MaxBlocks - 1)), Offset: v >> numberAt * PageSize, data: c.data[:n:n]}
	c.data = c.data[n:]
	return change, true
}

// A Change is what becomes of one page.
type Change struct {
	Block  int    // place in the block list
	Offset uint64 // bytes into the block, a multiple of PageSize
	data   []byte
}

// Whole reports that the change does not depend on what the page was.
func (c Change) Whole() bool { return len(c.data) == 0 || len(c.data) == PageSize }

// Apply makes the change to a page of PageSize bytes, which must be what the
// primary took it for. Applying all changes of an epoch again changes nothing.
func (c Change) Apply(page []byte) {
	switch len(c.data) {
	case 0:
		clear(page)
	case PageSize:
		copy(page, c.data)
	default:
		applyDelta(page, c.data)
	}
}
