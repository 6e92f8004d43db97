package replica

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// Digest is what the guest's memory and device state are after an epoch, as the
// primary has them. The standby compares before it acknowledges.
type Digest struct {
	Memory uint64 // [Sums.Total]
	Device uint64 // [DeviceSum]
}

const digestSize = 16

// Append the payload.
func (d Digest) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, d.Memory)
	return binary.BigEndian.AppendUint64(b, d.Device)
}

// DecodeDigest decodes a payload of [TypeDigest].
func DecodeDigest(p []byte) (Digest, error) {
	f := fields{rest: p}
	d := Digest{Memory: f.u64(), Device: f.u64()}
	if err := f.end(TypeDigest); err != nil {
		return Digest{}, err
	}
	return d, nil
}

// DeviceSum is the digest of a device state.
func DeviceSum(device []byte) uint64 { return xxhash.Sum64(device) }

var zeroPage [PageSize]byte

var zeroSum = xxhash.Sum64(zeroPage[:])

// PageSum is the digest of a page of PageSize bytes in its place: XXH64 of its
// content, mixed with block and offset. That of a page of zeros is 0 in any place.
func PageSum(block int, offset uint64, page []byte) uint64 {
	content := xxhash.Sum64(page)
	if content == zeroSum {
		return 0
	}
	place := offset/PageSize + uint64(block)<<53
	high, low := bits.Mul64(content^0x9e3779b97f4a7c15, place*0xbf58476d1ce4e5b9|1)
	return bits.RotateLeft64(content, 31) + (high ^ low)
}

// Sums are the digests of all pages of a memory, 8 bytes each. In the beginning all
// memory is zeros. They are not safe for concurrent use.
type Sums struct {
	pages [][]uint64
	total uint64
}

// NewSums of memory in these blocks.
func NewSums(blocks []Block) *Sums {
	s := &Sums{pages: make([][]uint64, len(blocks))}
	for i, b := range blocks {
		s.pages[i] = make([]uint64, b.Size/PageSize)
	}
	return s
}

// Set the digest of a page.
func (s *Sums) Set(block int, offset, sum uint64) error {
	if block < 0 || block >= len(s.pages) || offset/PageSize >= uint64(len(s.pages[block])) {
		return fmt.Errorf("replica: page at %#x of block %d", offset, block)
	}
	page := &s.pages[block][offset/PageSize]
	s.total += sum - *page
	*page = sum
	return nil
}

// Of a page, which must exist.
func (s *Sums) Of(block int, offset uint64) uint64 { return s.pages[block][offset/PageSize] }

// Total is the sum of all pages' digests. It does not depend on their order.
func (s *Sums) Total() uint64 { return s.total }
