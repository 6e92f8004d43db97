package capture

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestMemoryOfALargeEpoch is let go when small ones follow; epochs of one size
// take no more.
func TestMemoryOfALargeEpoch(t *testing.T) {
	e := new(Epoch)
	take := func(batches int) {
		e.Reset(1, Limit{Most: 1 << 20})
		for range batches * batchPages {
			if _, err := e.Page(0, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	const large, small = 20, 3
	take(large)
	for range large {
		take(small)
	}
	if n := len(e.batches); n > 2*small+1 {
		t.Errorf("%d batches for epochs of %d", n, small)
	}
	if n := testing.AllocsPerRun(20, func() { take(small) }); n != 0 {
		t.Errorf("%v allocations for an epoch like the last", n)
	}
}

// image is memory as one who takes epochs has it.
type image map[Page]byte

func (m image) apply(t *testing.T, e *Epoch) {
	t.Helper()
	pages, zero := 0, 0
	for _, b := range e.Batches() {
		data := b.Data
		for _, p := range b.Pages {
			pages++
			var first byte
			if p.Zero {
				zero++
			} else {
				first, data = data[0], data[pageSize:]
			}
			m[Page{Block: p.Block, Offset: p.Offset}] = first
		}
		if len(data) > 0 {
			t.Errorf("%d bytes of no page", len(data))
		}
	}
	if uint64(pages) != e.Pages || uint64(zero) != e.ZeroPages {
		t.Errorf("%d pages, %d of zeros, are counted as %d and %d", pages, zero, e.Pages, e.ZeroPages)
	}
}

// TestKeptPages: whatever is kept, the image after an epoch that is not is that of the
// memory, and what is held does not grow with the number of epochs.
func TestKeptPages(t *testing.T) {
	const pages, most = 100, 600
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		memory, copied, e := image{}, image{}, new(Epoch)
		for number := uint64(1); number < 100; number++ {
			e.Reset(number, Limit{Most: most, Never: most})
			for range random.IntN(pages) {
				p := Page{Block: random.IntN(2), Offset: uint64(random.IntN(pages)) * pageSize}
				content := byte(random.IntN(3))
				memory[p] = content
				if content == 0 {
					if err := e.Zero(p.Block, p.Offset); err != nil {
						t.Fatal(err)
					}
					continue
				}
				b, err := e.Page(p.Block, p.Offset)
				if err != nil {
					t.Fatal(err)
				}
				copy(b, bytes.Repeat([]byte{content}, pageSize))
			}
			if e.Over() != nil { // the guest dirtied more than may be held: begin anew
				e, copied = new(Epoch), maps.Clone(memory)
				continue
			}
			if random.IntN(3) > 0 {
				e.Keep()
				continue
			}
			copied.apply(t, e)
			if !maps.Equal(copied, memory) {
				t.Fatalf("seed %d, epoch %d: another memory", seed, number)
			}
		}
	}
}

// TestKeptForEver takes one page in an endless row of epochs that are kept.
func TestKeptForEver(t *testing.T) {
	e := new(Epoch)
	for number := uint64(1); number < 1000; number++ {
		e.Reset(number, Limit{Most: 3, Never: 3})
		if number%2 == 0 {
			e.Zero(0, 0)
		} else if _, err := e.Page(0, 0); err != nil {
			t.Fatal(err)
		}
		if err := e.Over(); err != nil {
			t.Fatalf("epoch %d: %v", number, err)
		}
		e.Keep()
	}
}

// TestALargeEpoch is read to its end, and not held; one that never ends is not.
func TestALargeEpoch(t *testing.T) {
	e := new(Epoch)
	e.Reset(1, Limit{Most: 10, Never: 100})
	for i := range uint64(60) {
		if b, err := e.Page(0, i*pageSize); err != nil || len(b) != pageSize {
			t.Fatal(err)
		}
	}
	if err := e.Over(); !errors.Is(err, ErrTooLarge) || e.Pages != 10 || len(e.batches) != 1 {
		t.Errorf("%v; %d pages in %d batches", err, e.Pages, len(e.batches))
	}
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		err = e.Zero(0, 0)
	}
	if !errors.Is(err, ErrTooMany) {
		t.Errorf("without end: %v", err)
	}
	if e.Reset(2, Limit{Most: 10, Never: 100}); e.Over() != nil {
		t.Error("the next epoch is too large, too")
	}
}
