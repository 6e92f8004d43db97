package replica

import (
	"errors"
	"fmt"

	wire "github.com/stillpoint-ft/stillpoint/proto/replica"
)

// ErrDigest says that an epoch, as it would be applied, is not what the primary has.
// The last committed epoch is untouched, but what it or the primary holds may be
// damaged.
var ErrDigest = errors.New("the epoch's digest is not the primary's")

// sums are the digests of the replica's pages, and of what the staged epoch makes of
// them. They cost 12 bytes a page.
type sums struct {
	*wire.Sums
	staged []pageSum
	// seen tells, for each page, the last epoch that it was in, by a count of
	// them.
	seen   [][]uint32
	epochs uint32
	page   [pageSize]byte
	again  map[place][]byte // pages of a batch that the epoch has had before
	told   bool             // an epoch brought a digest, so each must
}

type pageSum struct {
	place
	sum, before uint64
}

type place struct {
	block  int
	offset uint64
}

func newSums(blocks []wire.Block) *sums {
	s := &sums{Sums: wire.NewSums(blocks), again: map[place][]byte{}}
	for _, b := range blocks {
		s.seen = append(s.seen, make([]uint32, b.Size/pageSize))
	}
	return s
}

func (s *sums) begin() {
	s.staged = s.staged[:0]
	s.epochs++
}

// sees a page of the staged epoch, and reports whether it is not the first time.
func (s *sums) sees(at place) (before bool) {
	seen := &s.seen[at.block][at.offset/pageSize]
	before = *seen == s.epochs
	*seen = s.epochs
	return before
}

func (s *sums) stage(at place, page []byte) {
	s.staged = append(s.staged, pageSum{place: at, sum: wire.PageSum(at.block, at.offset, page)})
}

// apply makes the digests those after the staged epoch; undo makes them those of
// before again.
func (s *sums) apply() {
	for i := range s.staged {
		p := &s.staged[i]
		p.before = s.Of(p.block, p.offset)
		_ = s.Set(p.block, p.offset, p.sum) // bounds are checked
	}
}

func (s *sums) undo() {
	for i := len(s.staged) - 1; i >= 0; i-- {
		p := s.staged[i]
		_ = s.Set(p.block, p.offset, p.before)
	}
}

// contentOf a page that came as it is.
func (s *sums) contentOf(p wire.Page) []byte {
	if p.Zero {
		clear(s.page[:])
		return s.page[:]
	}
	return p.Data
}

// seedSums notes pages of the first copy, which have been written already.
func (r *Replica) seedSums(pages wire.Pages) error {
	for p, ok := pages.Next(); ok; p, ok = pages.Next() {
		if err := r.sums.Set(p.Block, p.Offset, wire.PageSum(p.Block, p.Offset, r.sums.contentOf(p))); err != nil {
			return err
		}
	}
	return nil
}

// sumPacked notes what a batch, which is not staged yet, makes of its pages. A page
// that the epoch has had before starts from what that made of it.
func (r *Replica) sumPacked(batch *wire.Packed) error {
	s := r.sums
	clear(s.again)
	each := batch.Changes()
	for c, ok := each.Next(); ok; c, ok = each.Next() {
		if at := (place{c.Block, c.Offset}); s.sees(at) {
			s.again[at] = append([]byte(nil), r.at(at)...)
		}
	}
	if len(s.again) > 0 {
		for _, before := range r.staged.packed.all() {
			r.repeat(before.Changes())
		}
	}
	each = batch.Changes()
	for c, ok := each.Next(); ok; c, ok = each.Next() {
		at := place{c.Block, c.Offset}
		page, again := s.again[at]
		if !again {
			page = s.page[:]
			if !c.Whole() {
				copy(page, r.at(at))
			}
		}
		c.Apply(page)
		s.stage(at, page)
	}
	return nil
}

// repeat changes of those pages that come again.
func (r *Replica) repeat(changes wire.Changes) {
	for c, ok := changes.Next(); ok; c, ok = changes.Next() {
		if page, again := r.sums.again[place{c.Block, c.Offset}]; again {
			c.Apply(page)
		}
	}
}

// at is a page as the last applied epoch has it.
func (r *Replica) at(p place) []byte {
	return r.blocks[p.block].data[p.offset : p.offset+pageSize]
}

// Digest takes what the primary has after the open epoch.
func (r *Replica) Digest(d wire.Digest) error {
	if r.staged.state != open || r.staged.told {
		return fmt.Errorf("%w: a digest without an epoch, or a second one", ErrOrder)
	}
	r.staged.digest, r.staged.told, r.sums.told = d, true, true
	return nil
}

// compare what the open epoch will make of the replica with what the primary has.
func (r *Replica) compare() error {
	e := &r.staged
	if !e.told {
		if r.sums.told {
			return fmt.Errorf("%w: epoch %d without a digest", ErrOrder, e.number)
		}
		return nil // a primary that knows none
	}
	r.mu.Lock()
	r.sums.apply()
	memory := r.sums.Total()
	r.sums.undo()
	r.mu.Unlock()
	if memory != e.digest.Memory {
		return fmt.Errorf("%w: memory after epoch %d, of %d pages, is %#x here and %#x at the primary", ErrDigest, e.number, e.pages, memory, e.digest.Memory)
	}
	if device := wire.DeviceSum(e.device); device != e.digest.Device {
		return fmt.Errorf("%w: device state of epoch %d, %d bytes, is %#x here and %#x at the primary", ErrDigest, e.number, len(e.device), device, e.digest.Device)
	}
	return nil
}
