// Package pack makes epochs small on their way to the standby: pages that the
// standby has already are left out, others are sent as a delta against what it
// has, and what remains is compressed.
//
// It rests on one invariant: what is known of a page here is what the standby
// holds of it once it has applied everything packed so far, in order. So
// everything that is packed must be sent, and all pages of an epoch must be
// packed; who fails at either packs for that standby no more.
//
// Nothing here does I/O or reads a clock.
package pack

import (
	"bytes"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// Packer packs the epochs for one standby. It allocates nothing once it has
// packed some. It is not safe for concurrent use.
type Packer struct {
	cache cache
	batch replica.PackedBatch
}

// New remembers pages in memory, which it owns from now on and whose size bounds
// how many; without any, all pages are sent as they are.
func New(memory []byte) *Packer { return &Packer{cache: newCache(memory)} }

// Reset empties the batch, not what is known of the standby.
func (p *Packer) Reset() { p.batch.Reset() }

// Batch is what was packed since Reset, to be sent.
func (p *Packer) Batch() *replica.PackedBatch { return &p.batch }

// Page packs a page of [replica.PageSize] bytes. After an error the Packer is of
// no use for this standby.
func (p *Packer) Page(block int, offset uint64, page []byte) error {
	if len(p.cache.keys) == 0 {
		return p.batch.Page(block, offset, page)
	}
	base, known := p.cache.take(block, offset)
	if known {
		return p.batch.Change(block, offset, base, page)
	}
	copy(base, page)
	return p.batch.Page(block, offset, page)
}

// Zero packs a page of zeros. After an error the Packer is of no use for this
// standby.
func (p *Packer) Zero(block int, offset uint64) error {
	if len(p.cache.keys) == 0 {
		return p.batch.Zero(block, offset)
	}
	base, known := p.cache.take(block, offset)
	if known && bytes.Equal(base, zeros[:]) {
		p.batch.Kept(true)
		return nil
	}
	clear(base)
	return p.batch.Zero(block, offset)
}

// zeros is a constant in all but name.
var zeros [replica.PageSize]byte
