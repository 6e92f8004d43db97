package replica

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	wire "github.com/stillpoint-ft/stillpoint/proto/replica"
)

// primary is what the other host knows of its guest.
type primary struct {
	memory [][]byte
	sums   *wire.Sums
	sent   [][]byte // as the standby has it
}

var testBlocks = []wire.Block{{Name: "ram0", Size: ramPages * pageSize}, {Name: "pc.rom", Size: 4 * pageSize}}

func newPrimary() *primary {
	p := &primary{sums: wire.NewSums(testBlocks)}
	for _, b := range testBlocks {
		p.memory, p.sent = append(p.memory, make([]byte, b.Size)), append(p.sent, make([]byte, b.Size))
	}
	return p
}

func (p *primary) page(block int, offset uint64) []byte {
	return p.memory[block][offset : offset+pageSize]
}

// pack a page as it is now.
func (p *primary) pack(t *testing.T, b *wire.PackedBatch, block int, offset uint64) {
	t.Helper()
	page, sent := p.page(block, offset), p.sent[block][offset:offset+pageSize]
	if err := p.sums.Set(block, offset, wire.PageSum(block, offset, page)); err != nil {
		t.Fatal(err)
	}
	if err := b.Change(block, offset, sent, page); err != nil {
		t.Fatal(err)
	}
}

func (p *primary) digest(device []byte) wire.Digest {
	return wire.Digest{Memory: p.sums.Total(), Device: wire.DeviceSum(device)}
}

func payloadOf(b *wire.PackedBatch) []byte { return bytes.Join(b.Compressed(), nil) }

// epoch receives batches and a digest, up to the end.
func (f *fixture) epoch(number uint64, d wire.Digest, device []byte, batches ...*wire.PackedBatch) error {
	f.t.Helper()
	begin := wire.EpochBegin{Device: uint32(len(device))}
	for _, b := range batches {
		begin.Pages += uint64(b.Len())
	}
	f.must(f.Begin(number, begin))
	for _, b := range batches {
		if err := f.Packed(payloadOf(b)); err != nil {
			return err
		}
	}
	f.must(f.Device(device))
	f.must(f.Digest(d))
	return f.End(number)
}

// TestDigestsAgree over epochs of pages at random, some of them more than once in an
// epoch and in a batch, and what is applied is what the primary has.
func TestDigestsAgree(t *testing.T) {
	f, p, random := newFixture(t), newPrimary(), rand.New(rand.NewPCG(1, 2))
	f.blocks()
	for i := range ramPages {
		copy(p.page(0, uint64(i*pageSize)), page(byte(i)))
		copy(p.sent[0][i*pageSize:], page(byte(i)))
		f.must(p.sums.Set(0, uint64(i*pageSize), wire.PageSum(0, uint64(i*pageSize), page(byte(i)))))
		f.must(f.Seed(pages(0, uint64(i*pageSize), byte(i))))
	}
	for number := uint64(1); number < 60; number++ {
		var batches []*wire.PackedBatch
		for range 1 + random.IntN(4) {
			b := new(wire.PackedBatch)
			for range random.IntN(12) {
				block := random.IntN(2)
				offset := uint64(random.IntN(len(p.memory[block])/pageSize)) * pageSize
				p.page(block, offset)[random.IntN(pageSize)]++
				if random.IntN(8) == 0 {
					clear(p.page(block, offset))
				}
				p.pack(t, b, block, offset)
			}
			batches = append(batches, b)
		}
		device := []byte{byte(number)}
		f.must(f.epoch(number, p.digest(device), device, batches...))
		f.must(f.Apply())
		if !bytes.Equal(f.RAM(), p.memory[0]) {
			t.Fatalf("epoch %d: the replica is not the primary's memory", number)
		}
	}
	found, err := f.Scrub(t.Context())
	if err != nil || found.Wrong != 0 || found.Pages != ramPages+4 {
		t.Errorf("%+v, %v", found, err)
	}
}

// oneEpoch is a committed epoch of one page, and what the next one would send.
func oneEpoch(t *testing.T) (f *fixture, p *primary, next *wire.PackedBatch) {
	t.Helper()
	f, p = newFixture(t), newPrimary()
	f.blocks()
	first := new(wire.PackedBatch)
	copy(p.page(0, pageSize), page(7))
	p.pack(t, first, 0, pageSize)
	f.must(f.epoch(1, p.digest([]byte{1}), []byte{1}, first))
	f.must(f.Apply())
	next = new(wire.PackedBatch)
	p.page(0, pageSize)[100] = 8
	p.pack(t, next, 0, pageSize)
	return f, p, next
}

func TestAWrongEpochIsNotHeld(t *testing.T) {
	for name, c := range map[string]func(f *fixture, d *wire.Digest){
		"a flipped bit under a delta":   func(f *fixture, _ *wire.Digest) { f.RAM()[pageSize+2000] ^= 4 },
		"a page that was left out":      func(_ *fixture, d *wire.Digest) { d.Memory += wire.PageSum(0, 0, page(1)) },
		"another device state":          func(_ *fixture, d *wire.Digest) { d.Device++ },
		"a bit of a digest of a digest": func(_ *fixture, d *wire.Digest) { d.Memory ^= 1 << 63 },
	} {
		t.Run(name, func(t *testing.T) {
			f, p, next := oneEpoch(t)
			d := p.digest([]byte{2})
			c(f, &d)
			before := bytes.Clone(f.RAM())
			if err := f.epoch(2, d, []byte{2}, next); !errors.Is(err, ErrDigest) {
				t.Errorf("%v", err)
			}
			if _, held := f.Staged(); held || f.Applied() != 1 || !bytes.Equal(before, f.RAM()) {
				t.Error("the last committed epoch was touched")
			}
		})
	}
}

func TestADigestIsNeededOnceThereWasOne(t *testing.T) {
	f, p, _ := oneEpoch(t)
	f.must(f.Begin(2, wire.EpochBegin{}))
	if err := f.End(2); !errors.Is(err, ErrOrder) {
		t.Errorf("an epoch without: %v", err)
	}
	f.Drop()
	if err := f.Digest(p.digest(nil)); !errors.Is(err, ErrOrder) {
		t.Errorf("outside of an epoch: %v", err)
	}
}

// TestScrubFindsAFlippedBit in any page, in the RAM file or in other memory.
func TestScrubFindsAFlippedBit(t *testing.T) {
	f, _, _ := oneEpoch(t)
	for _, d := range []struct {
		Damage
		flip *byte
	}{
		{Damage{"ram0", pageSize}, &f.RAM()[2*pageSize-1]},
		{Damage{"ram0", (ramPages - 1) * pageSize}, &f.RAM()[len(f.RAM())-1]},
		{Damage{"pc.rom", 2 * pageSize}, &f.Replica.blocks[1].data[2*pageSize]},
	} {
		*d.flip ^= 0x20
		found, err := f.Scrub(t.Context())
		if err != nil || found.Wrong != 1 || len(found.First) != 1 || found.First[0] != d.Damage {
			t.Errorf("%+v: found %+v, %v", d.Damage, found, err)
		}
		*d.flip ^= 0x20
	}
	if found, err := f.Scrub(t.Context()); err != nil || found.Wrong != 0 {
		t.Errorf("found %+v, %v", found, err)
	}
}

// TestScrubbingWhileEpochsCome finds nothing.
func TestScrubbingWhileEpochsCome(t *testing.T) {
	f, p, _ := oneEpoch(t)
	p.page(0, pageSize)[100] = 7
	f.must(p.sums.Set(0, pageSize, wire.PageSum(0, pageSize, page(7))))
	copy(p.sent[0][pageSize:], page(7))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if found, err := f.Scrub(ctx); err != nil && ctx.Err() == nil || found.Wrong > 0 {
				done <- errors.Join(err, errors.New("a wrong page"))
				return
			}
		}
	}()
	for number := uint64(2); number < 300; number++ {
		b := new(wire.PackedBatch)
		p.page(0, pageSize)[number%pageSize]++
		p.pack(t, b, 0, pageSize)
		f.must(f.epoch(number, p.digest(nil), nil, b))
		f.must(f.Apply())
	}
	cancel()
	if err, bad := <-done; bad {
		t.Fatal(err)
	}
}

func TestThereIsNothingToScrub(t *testing.T) {
	f := newFixture(t)
	if _, err := f.Scrub(t.Context()); !errors.Is(err, ErrNothingToScrub) {
		t.Errorf("without blocks: %v", err)
	}
	f.blocks()
	f.commit(1, 7)
	f.must(f.WriteStream(new(bytes.Buffer)))
	if _, err := f.Scrub(t.Context()); !errors.Is(err, ErrNothingToScrub) {
		t.Errorf("of a guest that runs: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Scrub(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	f.must(f.Close())
	if _, err := f.Scrub(t.Context()); err == nil {
		t.Error("of a replica that is closed")
	}
}

// TestAFileThatIsCutShortIsAnError for whatever touches it, and no signal.
func TestAFileThatIsCutShortIsAnError(t *testing.T) {
	delta := new(wire.PackedBatch)
	if err := delta.Change(0, pageSize, page(7), append([]byte{1}, page(7)[1:]...)); err != nil {
		t.Fatal(err)
	}
	for name, use := range map[string]func(f *fixture) error{
		"scrub": func(f *fixture) error { _, err := f.Scrub(f.t.Context()); return err },
		"apply": func(f *fixture) error { return f.Apply() },
		"packed": func(f *fixture) error {
			f.staged.state = empty
			f.must(f.Begin(3, wire.EpochBegin{Pages: 1}))
			return f.Packed(payloadOf(delta))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.blocks()
			f.commit(1, 7)
			f.stage(2, 9)
			f.must(f.End(2))
			f.must(os.Truncate(f.o.RAMFile, 0))
			if err := use(f); !errors.Is(err, ErrLost) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("seed", func(t *testing.T) {
		f := newFixture(t)
		f.blocks()
		f.must(os.Truncate(f.o.RAMFile, 0))
		if err := f.Seed(pages(0, 0, 1)); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
		f.must(os.Truncate(f.o.RAMFile, ramPages*pageSize))
		f.must(f.Seed(pages(0, 0, 1)))
	})
}

func TestAPanicIsNotAFault(t *testing.T) {
	f := newFixture(t)
	defer func() {
		if recover() == nil {
			t.Error("a fault of the program is taken for one of the memory")
		}
	}()
	_ = f.ram.use(func() error { panic("a fault of the program") })
}

// TestRoomIsTaken of a file that lacks it.
func TestRoomIsTaken(t *testing.T) {
	f := newFixture(t)
	path := f.o.RAMFile
	f.must(os.Truncate(path, 0))
	f.must(os.Truncate(path, ramPages*pageSize))
	r, err := New(f.o)
	f.must(err)
	defer r.Close()
	info, err := os.Stat(path)
	f.must(err)
	if s := info.Sys().(*syscall.Stat_t); s.Blocks*512 < info.Size() {
		t.Errorf("%d of %d bytes", s.Blocks*512, info.Size())
	}
}
