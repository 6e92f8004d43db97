package capture

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

const (
	pageSize = 4096
	// batchPages is a quarter MiB of pages, a frame on the wire: the standby takes
	// one apart while the next is on its way.
	batchPages = 64
)

// Page names one page of a batch. A zero page has no data.
type Page struct {
	Block  int
	Offset uint64
	Zero   bool
}

// Batch is a run of pages in the order in which QEMU sent them. Data holds the
// pages that are not zero, back to back.
type Batch struct {
	Pages []Page
	Data  []byte
}

// All are the pages with their data, of which a zero page has none. The data is good until
// the batch is used again.
func (b *Batch) All() iter.Seq2[Page, []byte] {
	return func(yield func(Page, []byte) bool) {
		rest := b.Data
		for _, p := range b.Pages {
			var data []byte
			if !p.Zero {
				data, rest = rest[:pageSize:pageSize], rest[pageSize:]
			}
			if !yield(p, data) {
				return
			}
		}
	}
}

func (b *Batch) full() bool { return len(b.Pages) == cap(b.Pages) }

func newBatch() *Batch {
	return &Batch{Pages: make([]Page, 0, batchPages), Data: make([]byte, 0, batchPages*pageSize)}
}

func (b *Batch) page(block int, offset uint64) []byte {
	b.Pages = append(b.Pages, Page{Block: block, Offset: offset})
	n := len(b.Data)
	b.Data = b.Data[:n+pageSize]
	return b.Data[n:]
}

func (b *Batch) zero(block int, offset uint64) {
	b.Pages = append(b.Pages, Page{Block: block, Offset: offset, Zero: true})
}

func (b *Batch) reset() { b.Pages, b.Data = b.Pages[:0], b.Data[:0] }

// Epoch is what one checkpoint copied out of QEMU. Its memory is used again by
// the next epoch that is copied into it, and shrinks bit by bit to what these need.
type Epoch struct {
	Number uint64
	Device []byte
	Times  Times

	batches   []*Batch
	used      int
	Pages     uint64
	ZeroPages uint64

	limit    Limit
	excess   uint64 // pages over the limit
	scratch  []byte // where they are read to
	kept     bool   // for the next epoch that is copied into it
	carried  map[Page][]byte
	carrying bool
}

// Limit of an epoch, in pages. Those over Most are read and forgotten, so that the
// guest gets to run on; Never is what no machine can have dirtied.
type Limit struct{ Most, Never uint64 }

// Times are the steps of a checkpoint, as this host's monotonic clock saw them.
type Times struct {
	Reply, Stopped, Copied, Resumed time.Time
	// Pause is STOP to RESUME by QEMU's own clock; zero where it was not told.
	Pause time.Duration
}

// Batches of the epoch, in order.
func (e *Epoch) Batches() []*Batch { return e.batches[:e.used] }

// Bytes of the pages that are not zero, and of the device state.
func (e *Epoch) Bytes() uint64 {
	return (e.Pages-e.ZeroPages)*pageSize + uint64(len(e.Device))
}

// Reset empties the epoch for the next one, but for the pages that Keep has kept.
func (e *Epoch) Reset(number uint64, limit Limit) {
	e.Number, e.limit, e.excess = number, limit, 0
	e.Device, e.Times = e.Device[:0], Times{}
	if e.kept {
		e.kept, e.carrying = false, true
		return
	}
	e.shrink()
	for _, b := range e.Batches() {
		b.reset()
	}
	e.used, e.Pages, e.ZeroPages = 0, 0, 0
	e.carrying, e.carried = false, nil
}

// Keep carries the epoch's pages into the next one that is copied into it. Of a
// page that both have the newer content stands.
func (e *Epoch) Keep() {
	e.kept = true
	e.carried = make(map[Page][]byte, e.Pages)
	for _, b := range e.Batches() {
		for p, content := range b.All() {
			e.carried[Page{Block: p.Block, Offset: p.Offset}] = content
		}
	}
}

// Over says by how much the epoch is larger than it may be: it is not whole then.
func (e *Epoch) Over() error {
	if e.excess == 0 {
		return nil
	}
	return fmt.Errorf("%w: epoch %d has %d pages, at most %d are allowed", ErrTooLarge, e.Number, e.Pages+e.excess, e.limit.Most)
}

// shrink lets one batch go if more than half were of no use to the last epoch, so
// that one large epoch does not hold its memory for ever.
func (e *Epoch) shrink() {
	if last := len(e.batches) - 1; last > 2*e.used {
		e.batches[last] = nil
		e.batches = e.batches[:last]
	}
}

func (e *Epoch) batch() *Batch {
	if e.used > 0 && !e.batches[e.used-1].full() {
		return e.batches[e.used-1]
	}
	if e.used == len(e.batches) {
		e.batches = append(e.batches, newBatch())
	}
	e.used++
	return e.batches[e.used-1]
}

// has says that the epoch has a page of a block.
func (e *Epoch) has(block int) bool {
	for _, b := range e.Batches() {
		for _, p := range b.Pages {
			if p.Block == block {
				return true
			}
		}
	}
	return false
}

// The epoch is the sink of QEMU's stream.

func (e *Epoch) Blocks([]colo.Block) error { return nil }

func (e *Epoch) Page(block int, offset uint64) ([]byte, error) {
	if content := e.again(block, offset); content != nil {
		return content, nil
	}
	fits, err := e.count()
	if !fits {
		return e.scratch, err
	}
	return e.batch().page(block, offset), nil
}

func (e *Epoch) Zero(block int, offset uint64) error {
	if content := e.again(block, offset); content != nil {
		clear(content)
		return nil
	}
	fits, err := e.count()
	if fits {
		e.ZeroPages++
		e.batch().zero(block, offset)
	}
	return err
}

// again is where a page's content is kept that was carried into this epoch. One that
// was all zeros has no room: the page comes once more, after it.
func (e *Epoch) again(block int, offset uint64) []byte {
	if !e.carrying {
		return nil
	}
	page := Page{Block: block, Offset: offset}
	content := e.carried[page]
	if content == nil {
		delete(e.carried, page)
	}
	return content
}

var (
	// ErrTooMany says that QEMU sends more pages than the machine can have dirtied.
	ErrTooMany = errors.New("too many pages")
	// ErrTooLarge says that an epoch has more pages than the daemon may hold.
	ErrTooLarge = errors.New("the epoch is too large")
)

// count says whether there is room for another page.
func (e *Epoch) count() (fits bool, err error) {
	if e.Pages < e.limit.Most {
		e.Pages++
		return true, nil
	}
	if e.scratch == nil {
		e.scratch = make([]byte, pageSize)
	}
	if e.excess++; e.excess > e.limit.Never {
		return false, fmt.Errorf("%w: more than %d in epoch %d", ErrTooMany, e.limit.Never, e.Number)
	}
	return false, nil
}

// Seeder receives the first full copy.
type Seeder interface {
	// Blocks is called once, before any page.
	Blocks(machine string, ram colo.Section, blocks []colo.Block) error
	// Pages takes one batch, which it may not keep.
	Pages(*Batch) error
}

// seeding batches the first copy and passes full batches on, so that its
// memory does not grow with the guest's. What comes while the guest is stopped it
// keeps until the guest runs again.
type seeding struct {
	to      Seeder
	capture *Capture
	batch   *Batch
	late    Epoch  // what came while the guest was stopped
	again   func() // called when memory is passed over a second time
	at      position
}

// position of a page in the order in which QEMU passes over memory.
type position struct {
	block  int
	offset uint64
}

// passed notices that QEMU has come to the end of memory and begun again, and
// what it sends at the end.
func (s *seeding) passed(block int, offset uint64) {
	if s.capture.reader.Ending() {
		s.capture.gauge.stopped.Store(true)
		s.capture.recopy.doubt(s.capture.blocks[block].Name, block, offset)
	}
	if block < s.at.block || block == s.at.block && offset < s.at.offset {
		s.again()
	}
	s.at = position{block, offset}
}

func (s *seeding) Blocks(blocks []colo.Block) error {
	s.capture.blocks = append([]colo.Block(nil), blocks...)
	s.late.limit = s.capture.limit()
	return s.to.Blocks(s.capture.machine, s.capture.reader.Section(), blocks)
}

func (s *seeding) Page(block int, offset uint64) ([]byte, error) {
	b, err := s.room(block, offset)
	if err != nil {
		return nil, err
	}
	return b.page(block, offset), nil
}

func (s *seeding) Zero(block int, offset uint64) error {
	b, err := s.room(block, offset)
	if err == nil {
		b.zero(block, offset)
	}
	return err
}

// room is a batch that has room for another page. A full one is passed on before
// the next page, never before the last page's bytes have been read into it.
func (s *seeding) room(block int, offset uint64) (*Batch, error) {
	s.passed(block, offset)
	if s.capture.gauge.Stopped() {
		if fits, _ := s.late.count(); fits {
			return s.late.batch(), nil
		}
	}
	if err := s.passOnLate(); err != nil { // there was no more memory for it
		return nil, err
	}
	if s.batch.full() {
		if err := s.pass(s.batch); err != nil {
			return nil, err
		}
	}
	return s.batch, nil
}

func (s *seeding) pass(b *Batch) error {
	err := s.to.Pages(b)
	b.reset()
	return err
}

// finish passes on what is left, in the order in which it came.
func (s *seeding) finish() error {
	if s.late.used == 0 {
		return s.pass(s.batch)
	}
	return s.passOnLate()
}

// passOnLate passes on what was kept, and what came before it.
func (s *seeding) passOnLate() error {
	if s.late.used == 0 {
		return nil
	}
	for _, b := range append([]*Batch{s.batch}, s.late.Batches()...) {
		if err := s.pass(b); err != nil {
			return err
		}
	}
	s.late.used, s.late.Pages = 0, 0
	return nil
}
