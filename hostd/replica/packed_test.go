package replica

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/pack"
	wire "github.com/stillpoint-ft/stillpoint/proto/replica"
)

// packed is a payload of what fill adds to a batch.
func packed(fill func(b *wire.PackedBatch) error) []byte {
	var b wire.PackedBatch
	if err := fill(&b); err != nil {
		panic(err)
	}
	return slices.Concat(b.Compressed()...)
}

// changed is a page that the standby has full of from, and now is full of from
// but for one byte.
func changed(block int, offset uint64, from, to byte) []byte {
	return packed(func(b *wire.PackedBatch) error {
		now := page(from)
		now[8] = to
		return b.Change(block, offset, page(from), now)
	})
}

// stagePacked sends a packed epoch of one page that the standby has, one of zeros
// that it has, and the page that is changed.
func (f *fixture) stagePacked(number uint64, from, to byte) {
	f.t.Helper()
	f.must(f.Begin(number, wire.EpochBegin{Pages: 3, ZeroPages: 1}))
	f.must(f.Packed(packed(func(b *wire.PackedBatch) error { b.Kept(false); b.Kept(true); return nil })))
	f.must(f.Packed(changed(0, pageSize, from, to)))
}

// announce drops the open epoch and begins it again, with so many pages.
func (f *fixture) announce(pages uint64) {
	f.t.Helper()
	f.Drop()
	f.must(f.Begin(2, wire.EpochBegin{Pages: pages}))
}

func TestAPackedEpochIsAppliedWhole(t *testing.T) {
	f := newFixture(t)
	f.blocks()
	f.commit(1, 7)
	f.stagePacked(2, 7, 9)
	if f.at(pageSize+8) != 7 {
		t.Fatal("an open epoch touched the replica")
	}
	f.must(f.End(2))
	f.must(f.Apply())
	want := page(7)
	want[8] = 9
	if got := f.RAM()[pageSize : 2*pageSize]; !bytes.Equal(got, want) || f.Applied() != 2 {
		t.Fatalf("% x after epoch %d", got[:16], f.Applied())
	}
	f.stagePacked(3, 7, 5)
	f.Drop()
	f.must(f.Apply())
	if f.at(pageSize+8) != 9 {
		t.Fatal("half an epoch touched the replica")
	}
}

func TestPackedBatchesAreAppliedInOrder(t *testing.T) {
	f := newFixture(t)
	f.blocks()
	f.commit(1, 0)
	f.must(f.Begin(2, wire.EpochBegin{Pages: 3, ZeroPages: 1}))
	f.must(f.Packed(changed(0, pageSize, 0, 1)))
	f.must(f.Packed(packed(func(b *wire.PackedBatch) error { return b.Zero(0, pageSize) })))
	f.must(f.Packed(changed(0, pageSize, 0, 2)))
	f.must(f.End(2))
	f.must(f.Apply())
	if f.at(pageSize+8) != 2 {
		t.Fatalf("%d came out", f.at(pageSize+8))
	}
}

// TestPackedProtocolErrors: what cannot be applied is refused before the epoch
// can be acknowledged.
func TestPackedProtocolErrors(t *testing.T) {
	broken := changed(0, pageSize, 7, 9)
	broken[len(broken)-9]++ // the delta's number of words
	for _, c := range []struct {
		name string
		do   func(f *fixture) error
		want error
	}{
		{"page outside the block", func(f *fixture) error { f.announce(4); return f.Packed(changed(0, ramPages*pageSize, 0, 1)) }, ErrBound},
		{"page of no block", func(f *fixture) error { f.announce(4); return f.Packed(changed(2, 0, 0, 1)) }, ErrBound},
		{"a broken delta", func(f *fixture) error { f.announce(4); return f.Packed(broken) }, wire.ErrMalformed},
		{"more pages than announced", func(f *fixture) error { return f.Packed(changed(0, 0, 0, 1)) }, ErrBound},
		{"packed after the end", func(f *fixture) error { f.must(f.End(2)); return f.Packed(changed(0, 0, 0, 1)) }, ErrOrder},
		{"fewer pages than announced", func(f *fixture) error {
			f.announce(2)
			f.must(f.Packed(changed(0, pageSize, 7, 9)))
			return f.End(2)
		}, ErrOrder},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.blocks()
			f.commit(1, 7)
			f.stagePacked(2, 7, 9)
			if err := c.do(f); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if f.at(pageSize+8) != 7 || f.at(0) != 0 {
				t.Fatal("the replica was touched")
			}
		})
	}
}

// packedShipment is a shipment whose batches are packed: some words of each page
// change. Applying it again is applying what is there.
func packedShipment(count, ram int) *shipment {
	s := shipmentOf(count, ram)
	s.batches, s.begin.ZeroPages = nil, 0
	var b wire.PackedBatch
	now := page(7)
	for word := 0; word < pageSize; word += 256 {
		now[word] = 1
	}
	for i := range count {
		if err := b.Change(0, uint64(i*37%ram)*pageSize, page(7), now); err != nil {
			panic(err)
		}
		if (i+1)%batchPages == 0 || i+1 == count {
			s.batches = append(s.batches, slices.Concat(b.Compressed()...))
			b.Reset()
		}
	}
	return s
}

// TestPackedEpochsAllocateNothing: once the first have come.
func TestPackedEpochsAllocateNothing(t *testing.T) {
	r, s, n := benchReplica(t, 1024), packedShipment(1000, 1024), uint64(0)
	commit := func() {
		n++
		s.commit(t, r, n)
	}
	commit()
	commit()
	// The list of errors in commit is the test's own.
	if allocs := testing.AllocsPerRun(20, commit); allocs > 1 {
		t.Errorf("%v allocations for an epoch", allocs)
	}
}

// sendDevice sends an epoch of nothing but device state, and gives the bytes that
// took.
func (f *fixture) sendDevice(p *pack.Packer, number uint64, state []byte) (sent int) {
	f.t.Helper()
	f.must(f.Begin(number, wire.EpochBegin{Device: uint32(len(state))}))
	f.must(p.Device(state, func(b *wire.PackedBatch) error {
		payload := slices.Concat(b.Compressed()...)
		sent += len(payload)
		return f.PackedDevice(payload)
	}))
	f.must(f.End(number))
	f.must(f.Apply())
	return sent
}

// TestPackedDeviceState grows and shrinks, and changes in few places.
func TestPackedDeviceState(t *testing.T) {
	f := newFixture(t)
	f.o.Device = 4 << 20
	f.blocks()
	p, number := pack.New(nil), uint64(0)
	for _, size := range []int{100, 5000, 8192, 8193, 3 << 20, 8000, 4096, 0, 10, 4097} {
		state := bytes.Repeat([]byte{byte(size)}, size)
		for range 2 {
			number++
			if size > 0 {
				state[size/2] = byte(number)
			}
			sent := f.sendDevice(p, number, state)
			if !bytes.Equal(f.last.device, state) {
				t.Fatalf("epoch %d: another device state of %d bytes came out", number, size)
			}
			if number%2 == 0 && sent > 100 {
				t.Errorf("%d bytes for a change of one in %d", sent, size)
			}
		}
	}
}

func TestPackedDeviceErrors(t *testing.T) {
	pages := func(offsets ...uint64) []byte {
		return packed(func(b *wire.PackedBatch) error {
			for _, offset := range offsets {
				if err := b.Page(int(offset%pageSize), offset-offset%pageSize, page(1)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, c := range []struct {
		name string
		do   func(f *fixture) error
		want error
	}{
		{"outside of it", func(f *fixture) error { return f.PackedDevice(pages(pageSize)) }, ErrBound},
		{"of a block", func(f *fixture) error { return f.PackedDevice(pages(1)) }, ErrBound},
		{"more than announced", func(f *fixture) error { return f.PackedDevice(pages(0, 0)) }, ErrBound},
		{"less than announced", func(f *fixture) error { return f.End(2) }, ErrOrder},
		{"one page of two", func(f *fixture) error {
			f.Drop()
			f.o.Device = 2 * pageSize
			f.must(f.Begin(2, wire.EpochBegin{Device: 2 * pageSize}))
			f.must(f.PackedDevice(pages(pageSize)))
			return f.End(2)
		}, ErrOrder},
		{"broken", func(f *fixture) error { return f.PackedDevice(pages(0)[1:]) }, wire.ErrMalformed},
		{"in two forms", func(f *fixture) error { f.must(f.Device([]byte{1})); return f.PackedDevice(pages(0)) }, ErrOrder},
		{"in two forms, the other way", func(f *fixture) error { f.must(f.PackedDevice(pages(0))); return f.Device([]byte{1}) }, ErrOrder},
		{"without an epoch", func(f *fixture) error { f.Drop(); return f.PackedDevice(pages(0)) }, ErrOrder},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.blocks()
			f.commit(1, 7)
			f.must(f.Begin(2, wire.EpochBegin{Device: 100}))
			if err := c.do(f); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if len(f.last.device) != 1 || f.last.device[0] != 7 {
				t.Fatal("the committed device state was touched")
			}
		})
	}
}

func TestPackedDeviceAllocatesNothing(t *testing.T) {
	f := newFixture(t)
	f.o.Device = 1 << 20
	f.blocks()
	p, state, number := pack.New(nil), make([]byte, 150_000), uint64(0)
	epoch := func() {
		number++
		state[number%150_000]++
		f.must(f.Begin(number, wire.EpochBegin{Device: uint32(len(state))}))
		f.must(p.Device(state, f.receiveDevice))
		f.must(f.End(number))
		f.must(f.Apply())
	}
	epoch()
	epoch()
	if n := testing.AllocsPerRun(50, epoch); n != 0 {
		t.Errorf("%v allocations for an epoch", n)
	}
}

// receiveDevice takes a batch as the wire brings it.
func (f *fixture) receiveDevice(b *wire.PackedBatch) error {
	f.payload = f.payload[:0]
	for _, part := range b.Compressed() {
		f.payload = append(f.payload, part...)
	}
	return f.PackedDevice(f.payload)
}
