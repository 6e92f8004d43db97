package replica

import (
	"fmt"
	"io"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
	wire "github.com/stillpoint-ft/stillpoint/proto/replica"
)

// Output adds a batch of the epoch's output, which a takeover may have to send.
func (r *Replica) Output(payload []byte) error {
	if r.staged.state != open {
		return fmt.Errorf("%w: output without an epoch", ErrOrder)
	}
	if r.staged.outputBytes+uint64(len(payload)) > r.o.Output {
		return fmt.Errorf("%w: output of more than %d bytes", ErrBound, r.o.Output)
	}
	frames, err := wire.DecodeOutput(payload)
	if err != nil {
		return err
	}
	if frames.Len() == 0 {
		return nil // nothing to keep, however many there are
	}
	r.staged.frames += uint32(frames.Len())
	r.staged.outputBytes += uint64(len(payload))
	r.staged.output.add(payload)
	return nil
}

// End closes the open epoch. When it returns nil the epoch is held whole and
// may be acknowledged; Apply must follow before the next Begin.
func (r *Replica) End(number uint64) error {
	e := &r.staged
	switch {
	case e.state != open || e.number != number:
		return fmt.Errorf("%w: end of epoch %d", ErrOrder, number)
	case e.pages != e.begin.Pages, e.zero != e.begin.ZeroPages, !e.deviceEnds(), e.frames != e.begin.Output:
		return fmt.Errorf("%w: epoch %d is not what its beginning announced", ErrOrder, number)
	}
	if err := r.compare(); err != nil {
		return err
	}
	e.state = whole
	return nil
}

// Staged is the number of an epoch that is held whole and not yet applied.
func (r *Replica) Staged() (number uint64, ok bool) {
	return r.staged.number, r.staged.state == whole
}

// Apply writes the staged epoch to the guest's memory. After an error, which is
// [ErrLost] as a rule, the replica is of no use.
func (r *Replica) Apply() error {
	if r.staged.state != whole {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ram.use(r.applyPages); err != nil {
		return err
	}
	r.sums.apply()
	r.applied = r.staged.number
	r.last, r.staged = r.staged, r.last
	r.staged.reuse(&r.last, r.mostKept())
	return nil
}

func (r *Replica) applyPages() error {
	for _, batch := range r.staged.packed.all() {
		r.change(batch.Changes())
	}
	return nil
}

// Drop forgets an epoch that has not been received whole.
func (r *Replica) Drop() {
	if r.staged.state == open {
		r.staged.reset()
	}
}

// Applied is the number of the last committed epoch; zero before the first.
func (r *Replica) Applied() uint64 { return r.applied }

// LastOutput calls send with the output of the last committed epoch, in order.
func (r *Replica) LastOutput(send func(port int, frame []byte)) error {
	for _, payload := range r.last.output.all() {
		frames, err := wire.DecodeOutput(payload)
		if err != nil {
			return err
		}
		for f, ok := frames.Next(); ok; f, ok = frames.Next() {
			send(int(f.Port), f.Data)
		}
	}
	return nil
}

// WriteStream writes what the waiting QEMU needs to run from the last
// committed epoch. There is nothing to scrub from then on.
func (r *Replica) WriteStream(w io.Writer) error {
	if r.applied == 0 {
		return fmt.Errorf("run the standby: no epoch is committed")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = true
	in := colo.Incoming{Machine: r.machine, RAM: r.section, Device: r.last.device}
	for _, b := range r.blocks {
		ib := colo.IncomingBlock{Block: b.Block, Shared: b.shared}
		if !b.shared {
			ib.Data = b.data
		}
		in.Blocks = append(in.Blocks, ib)
	}
	return colo.WriteIncoming(w, in)
}

// RAM is the main memory as the waiting QEMU sees it. It is for tests and
// probes, which compare it with the primary's.
func (r *Replica) RAM() []byte { return r.ram.bytes }

// check validates a batch of the first copy before anything of it is used.
func (r *Replica) check(payload []byte) (pages wire.Pages, err error) {
	if pages, err = wire.DecodePages(payload); err != nil {
		return pages, err
	}
	each := pages
	for p, ok := each.Next(); ok; p, ok = each.Next() {
		if err := r.bounds(p.Block, p.Offset); err != nil {
			return pages, err
		}
	}
	return pages, nil
}

// bounds says whether there is such a page.
func (r *Replica) bounds(block int, offset uint64) error {
	if block >= len(r.blocks) || r.blocks[block].Size < pageSize || offset > r.blocks[block].Size-pageSize {
		return fmt.Errorf("%w: page at %#x of block %d", ErrBound, offset, block)
	}
	return nil
}

// change applies a batch of an epoch. Deltas are against what the epochs and batches
// before it have made of the pages.
func (r *Replica) change(changes wire.Changes) {
	for c, ok := changes.Next(); ok; c, ok = changes.Next() {
		c.Apply(r.blocks[c.Block].data[c.Offset : c.Offset+pageSize])
	}
}

func (r *Replica) write(pages wire.Pages) {
	for p, ok := pages.Next(); ok; p, ok = pages.Next() {
		at := r.blocks[p.Block].data[p.Offset : p.Offset+pageSize]
		if p.Zero {
			clear(at)
		} else {
			copy(at, p.Data)
		}
	}
}

// mostKept is above what any epoch within bounds needs.
func (r *Replica) mostKept() uint64 { return 3*r.o.RAMSize + 16<<20 }

// reuse the memory of pages that have been applied for the next epoch's, unless it
// has grown above most bytes, which batches of ever other sizes could make it do.
func (e *epoch) reuse(applied *epoch, most uint64) {
	e.packed, applied.packed = applied.packed, opened{}
	e.packed.shrink()
	e.output.shrink()
	if e.packed.size() > most {
		e.packed = opened{}
	}
	e.reset()
}

func (e *epoch) reset() {
	e.packed.reset()
	e.output.reset()
	*e = epoch{packed: e.packed, device: e.device[:0], output: e.output}
}
