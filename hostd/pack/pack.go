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
	"slices"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

// Packer packs the epochs for one standby. It allocates nothing once it has
// packed some. It is not safe for concurrent use.
type Packer struct {
	cache  cache
	batch  replica.PackedBatch
	device []byte // of the last epoch, filled with zeros to whole pages
	tail   [replica.PageSize]byte
}

// deviceBatch is how many bytes of device state one batch stands for, so that its
// worst still has room.
const deviceBatch = 1 << 20

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

// Device packs an epoch's device state against the one before, and has each batch
// sent. What was packed before must have been sent. After an error the Packer is of
// no use for this standby.
func (p *Packer) Device(state []byte, send func(*replica.PackedBatch) error) error {
	p.fitDevice((len(state) + replica.PageSize - 1) / replica.PageSize * replica.PageSize)
	for from := 0; from < len(p.device); from += deviceBatch {
		p.batch.Reset()
		for at := from; at < min(from+deviceBatch, len(p.device)); at += replica.PageSize {
			base := p.device[at : at+replica.PageSize]
			if err := p.batch.Change(0, uint64(at), base, p.filled(state[at:])); err != nil {
				return err
			}
		}
		if err := send(&p.batch); err != nil {
			return err
		}
	}
	return nil
}

// fitDevice cuts what is known of the device state, or adds zeros, as the standby
// does.
func (p *Packer) fitDevice(size int) {
	known := min(len(p.device), size)
	p.device = slices.Grow(p.device[:known], size-known)[:size]
	clear(p.device[known:])
}

// filled is the first page of b, with zeros at its end if b is shorter.
func (p *Packer) filled(b []byte) []byte {
	if len(b) >= replica.PageSize {
		return b[:replica.PageSize]
	}
	clear(p.tail[copy(p.tail[:], b):])
	return p.tail[:]
}

// zeros is a constant in all but name.
var zeros [replica.PageSize]byte
