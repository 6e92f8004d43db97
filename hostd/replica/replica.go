// Package replica keeps the standby's copy of a machine: exactly the last
// committed epoch, never a part of one. It applies epochs to the RAM file of a
// waiting QEMU and writes the stream that makes that QEMU run.
package replica

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
	wire "github.com/stillpoint-ft/stillpoint/proto/replica"
)

const pageSize = 4096

// Errors of a replica. All of them mean that the primary broke the protocol:
// the epoch in question is dropped and the last committed one is untouched.
var (
	ErrOrder = errors.New("epoch data out of order")
	ErrBound = errors.New("outside the machine's memory")
)

// Options of a Replica.
type Options struct {
	RAMFile string
	// RAMBlock is the name of the block that lives in RAMFile, RAMSize its
	// bytes.
	RAMBlock string
	RAMSize  uint64
	// Private bounds the memory of all other blocks, Device and Output what an
	// epoch brings along, in bytes.
	Private, Device, Output uint64
}

// Replica is the copy of one machine. One goroutine uses it, but for Scrub.
type Replica struct {
	o       Options
	mu      sync.Mutex // guards what the blocks hold, and their digests, for Scrub
	ram     *memory
	sums    *sums
	running bool // a guest may change the memory
	machine string
	section colo.Section
	blocks  []block
	staged  epoch       // being received, or received and not yet applied
	last    epoch       // device state and output of the last applied epoch
	device  wire.Packed // the batch of device state that came last
	applied uint64
}

type block struct {
	colo.Block
	shared bool
	data   []byte
}

// epoch is one epoch's content. Its memory is used again.
type epoch struct {
	number      uint64
	state       state
	begin       wire.EpochBegin
	pages, zero uint64
	packed      opened
	digest      wire.Digest // of the primary, once it is told
	told        bool
	device      []byte
	deviceParts uint64 // pages of device state that came packed
	output      pile   // payloads of Output frames
	outputBytes uint64
	frames      uint32
}

// pile is a list of byte slices whose memory is used again, and shrinks bit by bit
// to what is needed.
type pile struct {
	slices [][]byte
	used   int
}

// all that was added, in order.
func (p *pile) all() [][]byte { return p.slices[:p.used] }

// add a copy.
func (p *pile) add(b []byte) {
	if p.used == len(p.slices) {
		p.slices = append(p.slices, nil)
	}
	p.slices[p.used] = append(p.slices[p.used][:0], b...)
	p.used++
}

func (p *pile) reset() { p.used = 0 }

// shrink lets one slice go if more than half were of no use, so that one large
// epoch does not hold its memory for ever.
func (p *pile) shrink() {
	if last := len(p.slices) - 1; last > 2*p.used {
		p.slices[last] = nil
		p.slices = p.slices[:last]
	}
}

// opened is a list of packed batches whose memory is used again. They are kept
// as they are applied: compressed ones would have to be opened twice, to be
// checked before the acknowledgement and to be applied after it.
type opened struct {
	batches []*wire.Packed
	used    int
}

func (o *opened) all() []*wire.Packed { return o.batches[:o.used] }

// next is the batch that add would add.
func (o *opened) next() *wire.Packed {
	if o.used == len(o.batches) {
		o.batches = append(o.batches, new(wire.Packed))
	}
	return o.batches[o.used]
}

func (o *opened) add() { o.used++ }

func (o *opened) size() (bytes uint64) {
	for _, b := range o.batches {
		bytes += b.Size()
	}
	return bytes
}

func (o *opened) reset() { o.used = 0 }

func (o *opened) shrink() {
	if last := len(o.batches) - 1; last > 2*o.used {
		o.batches[last] = nil
		o.batches = o.batches[:last]
	}
}

type state int

const (
	empty state = iota
	open
	whole
)

// New maps the RAM file of a waiting QEMU.
func New(o Options) (*Replica, error) {
	ram, err := mapMemory(o.RAMFile, o.RAMSize)
	if err != nil {
		return nil, fmt.Errorf("make a replica: %w", err)
	}
	return &Replica{o: o, ram: ram}, nil
}

// Close unmaps the RAM file; QEMU keeps its own mapping.
func (r *Replica) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ram.close()
}

// SetBlocks takes the primary's list of RAM blocks, before any page.
func (r *Replica) SetBlocks(b wire.Blocks) error {
	if r.blocks != nil {
		return fmt.Errorf("%w: a second list of RAM blocks", ErrOrder)
	}
	var private uint64
	var blocks []block
	for _, x := range b.Blocks {
		if x.Name == r.o.RAMBlock {
			if x.Size != r.o.RAMSize {
				return fmt.Errorf("%w: block %s has %d bytes at the primary, %d here", ErrBound, x.Name, x.Size, r.o.RAMSize)
			}
			blocks = append(blocks, block{colo.Block{Name: x.Name, Size: x.Size}, true, r.ram.bytes})
			continue
		}
		if x.Size%pageSize != 0 || x.Size > r.o.Private-private {
			return fmt.Errorf("%w: block %s of %d bytes", ErrBound, x.Name, x.Size)
		}
		private += x.Size
		blocks = append(blocks, block{colo.Block{Name: x.Name, Size: x.Size}, false, make([]byte, x.Size)})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.machine, r.section, r.blocks, r.sums = b.MachineName, colo.Section(b.RAM), blocks, newSums(b.Blocks)
	return nil
}

// Seed applies a batch of the first copy at once: there is no committed epoch
// yet that it could spoil.
func (r *Replica) Seed(payload []byte) error {
	if r.applied != 0 || r.staged.state != empty {
		return fmt.Errorf("%w: a seed page after an epoch", ErrOrder)
	}
	pages, err := r.check(payload)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ram.use(func() error {
		r.write(pages)
		return r.seedSums(pages)
	})
}

// Begin opens an epoch.
func (r *Replica) Begin(number uint64, b wire.EpochBegin) error {
	if r.staged.state != empty || number <= r.applied || r.blocks == nil {
		return fmt.Errorf("%w: epoch %d begins after %d", ErrOrder, number, r.applied)
	}
	if uint64(b.Device) > r.o.Device {
		return fmt.Errorf("%w: device state of %d bytes, at most %d", ErrBound, b.Device, r.o.Device)
	}
	if most := r.mostPages(); b.Pages > most {
		return fmt.Errorf("%w: epoch of %d pages, at most %d", ErrBound, b.Pages, most)
	}
	r.staged.reset()
	r.sums.begin()
	r.staged.number, r.staged.begin, r.staged.state = number, b, open
	return nil
}

// mostPages bounds an epoch: QEMU may send a page more than once in a
// checkpoint, but not all of them.
func (r *Replica) mostPages() uint64 {
	var bytes uint64
	for _, b := range r.blocks {
		bytes += b.Size
	}
	return 2 * bytes / pageSize
}

// Packed adds a batch of pages to the open epoch. They are applied in order. Nothing of
// the payload is kept.
func (r *Replica) Packed(payload []byte) error {
	if r.staged.state != open {
		return fmt.Errorf("%w: pages without an epoch", ErrOrder)
	}
	batch := r.staged.packed.next()
	if err := batch.Open(payload); err != nil {
		return err
	}
	changes := batch.Changes()
	for c, ok := changes.Next(); ok; c, ok = changes.Next() {
		if err := r.bounds(c.Block, c.Offset); err != nil {
			return err
		}
	}
	if err := r.staged.count(batch.Pages, batch.ZeroPages); err != nil {
		return err
	}
	if all := batch.Changes(); all.Len() == 0 {
		return nil // nothing to keep, however many there are
	}
	if err := r.ram.use(func() error { return r.sumPacked(batch) }); err != nil {
		return err
	}
	r.staged.packed.add()
	return nil
}

// count pages that arrived.
func (e *epoch) count(pages, zero uint64) error {
	e.pages += pages
	e.zero += zero
	if e.pages > e.begin.Pages {
		return fmt.Errorf("%w: more pages than the epoch announced", ErrBound)
	}
	return nil
}

// Device adds a piece of the device state.
func (r *Replica) Device(payload []byte) error {
	if r.staged.state != open || len(r.staged.device)+len(payload) > int(r.staged.begin.Device) {
		return fmt.Errorf("%w: device state", ErrOrder)
	}
	r.staged.device = append(r.staged.device, payload...)
	return nil
}

// PackedDevice adds a packed batch of the device state, which changes that of the
// last epoch. Nothing of the payload is kept.
func (r *Replica) PackedDevice(payload []byte) error {
	e := &r.staged
	if e.state != open || e.deviceParts == 0 && len(e.device) > 0 {
		return fmt.Errorf("%w: packed device state", ErrOrder)
	}
	if err := r.device.Open(payload); err != nil {
		return err
	}
	if e.deviceParts == 0 {
		e.deviceFrom(r.last.device)
	}
	changes := r.device.Changes()
	for c, ok := changes.Next(); ok; c, ok = changes.Next() {
		if c.Block != 0 || c.Offset >= uint64(len(e.device)) {
			return fmt.Errorf("%w: page at %#x of the device state", ErrBound, c.Offset)
		}
		c.Apply(e.device[c.Offset : c.Offset+pageSize])
	}
	if e.deviceParts += r.device.Pages; e.deviceParts > uint64(len(e.device)/pageSize) {
		return fmt.Errorf("%w: more device state than the epoch announced", ErrBound)
	}
	return nil
}

// deviceFrom makes the device state that of the epoch before, cut or filled with
// zeros to the whole pages that its own takes.
func (e *epoch) deviceFrom(last []byte) {
	size := (int(e.begin.Device) + pageSize - 1) / pageSize * pageSize
	known := min(len(last), size)
	e.device = slices.Grow(append(e.device[:0], last[:known]...), size-known)[:size]
	clear(e.device[known:])
}

// deviceEnds says whether all of the device state is there, and cuts the zeros off
// that filled the last page.
func (e *epoch) deviceEnds() bool {
	if e.deviceParts > 0 {
		if e.deviceParts != uint64(len(e.device)/pageSize) {
			return false
		}
		e.device = e.device[:e.begin.Device]
	}
	return len(e.device) == int(e.begin.Device)
}
