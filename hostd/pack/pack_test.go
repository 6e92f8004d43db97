package pack

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

const pageSize = replica.PageSize

// guest is a memory that changes, and what its standby has of it.
type guest struct {
	t       testing.TB
	rand    *rand.Rand
	memory  [][]byte
	standby [][]byte
	packed  replica.Packed
	payload []byte
}

func newGuest(t testing.TB, pages int) *guest {
	g := &guest{t: t, rand: rand.New(rand.NewPCG(1, 2))}
	for range pages {
		g.memory = append(g.memory, make([]byte, pageSize))
		g.standby = append(g.standby, make([]byte, pageSize))
	}
	return g
}

// dirty changes a page, or not, and packs it.
func (g *guest) dirty(p *Packer) {
	n := g.rand.IntN(len(g.memory))
	page := g.memory[n]
	switch g.rand.IntN(6) {
	case 0:
		clear(page)
		if err := p.Zero(n%2, uint64(n/2)*pageSize); err != nil {
			g.t.Fatal(err)
		}
		return
	case 1:
		for i := range page {
			page[i] = byte(g.rand.Uint32())
		}
	case 2:
	default:
		for range 5 {
			page[g.rand.IntN(pageSize)]++
		}
	}
	if err := p.Page(n%2, uint64(n/2)*pageSize, page); err != nil {
		g.t.Fatal(err)
	}
}

// ship has the standby apply the batch.
func (g *guest) ship(p *Packer, compress bool) {
	parts := p.Batch().Parts()
	if compress {
		parts = p.Batch().Compressed()
	}
	g.payload = g.payload[:0]
	for _, part := range parts {
		g.payload = append(g.payload, part...)
	}
	if err := g.packed.Open(g.payload); err != nil {
		g.t.Fatal(err)
	}
	changes := g.packed.Changes()
	for c, ok := changes.Next(); ok; c, ok = changes.Next() {
		c.Apply(g.standby[int(c.Offset/pageSize)*2+c.Block])
	}
}

// TestTheStandbyHasWhatIsKnownOfIt, whether the cache holds everything, has to
// make room all the time, or is off.
func TestTheStandbyHasWhatIsKnownOfIt(t *testing.T) {
	for _, size := range []int{1 << 20, 2*perSet + 100, 0} {
		g, p := newGuest(t, 100), New(bytes.Repeat([]byte{0xee}, size))
		for epoch := range 100 {
			p.Reset()
			for range 60 {
				g.dirty(p)
			}
			if p.Batch().Len() != 60 {
				t.Fatalf("a batch of %d pages", p.Batch().Len())
			}
			g.ship(p, epoch%2 == 0)
			for n := range g.memory {
				if !bytes.Equal(g.memory[n], g.standby[n]) {
					t.Fatalf("cache of %d: epoch %d: page %d differs", size, epoch, n)
				}
			}
		}
	}
}

func TestWhatTheStandbyHasIsLeftOut(t *testing.T) {
	p, page := New(make([]byte, 1<<20)), bytes.Repeat([]byte{7}, pageSize)
	send := func() int {
		p.Reset()
		for _, err := range []error{p.Page(0, 0, page), p.Zero(0, pageSize), p.Zero(1, 0)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return len(slices.Concat(p.Batch().Parts()...))
	}
	const head = 13
	if n := send(); n != head+3*8+pageSize {
		t.Errorf("%d bytes the first time", n)
	}
	if n := send(); n != head {
		t.Errorf("%d bytes for the same again", n)
	}
}

func TestTheOldestMakesRoom(t *testing.T) {
	c := newCache(make([]byte, perSet))
	for n := range uint64(ways) {
		c.take(0, n*pageSize)
	}
	c.take(0, 0)
	c.take(0, ways*pageSize) // takes the place of page 1
	for n, want := range []bool{0: true, 2: true, 3: true, ways: true} {
		if n == 1 || n > 3 && n < ways {
			continue
		}
		if _, known := c.take(0, uint64(n)*pageSize); known != want {
			t.Errorf("page %d known: %v", n, known)
		}
	}
	if _, known := c.take(0, pageSize); known {
		t.Error("page 1 is still known")
	}
	if _, known := c.take(1, 0); known {
		t.Error("the page of another block is known")
	}
}

func TestPackingAllocatesNothing(t *testing.T) {
	for _, compress := range []bool{false, true} {
		g, p := newGuest(t, 100), New(make([]byte, 1<<20))
		epoch := func() {
			p.Reset()
			for range 200 {
				g.dirty(p)
			}
			g.ship(p, compress)
		}
		for range 50 {
			epoch()
		}
		if n := testing.AllocsPerRun(50, epoch); n != 0 {
			t.Errorf("%v allocations for an epoch", n)
		}
	}
}

func TestCompressWhereItIsWorthIt(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		rates Rates
		want  bool
	}{
		{"nothing known", Rates{}, true},
		{"nothing compressed yet", Rates{}.Sent(1<<20, ms), true},
		{"a slow link", Rates{}.Sent(1<<20, 8*ms).Compressed(1<<19, ms), true},
		{"a link that is faster", Rates{}.Sent(1<<20, ms).Compressed(1<<19, ms), false},
		{"nothing saved", Rates{}.Sent(1<<20, 8*ms).Compressed(0, ms), false},
		{"a while ago", withheld(again), true},
		{"not so long ago", withheld(again - 1), false},
	} {
		if got := c.rates.Worth(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func withheld(batches int) Rates {
	r := Rates{}.Sent(1<<20, time.Millisecond).Compressed(0, time.Millisecond)
	for range batches {
		r = r.Withheld()
	}
	return r
}

// TestRatesFollowTheLink: it becomes slow, and fast again.
func TestRatesFollowTheLink(t *testing.T) {
	r, compressing := Rates{}.Compressed(1<<19, time.Millisecond), time.Millisecond
	settle := func(sending time.Duration) bool {
		for range 50 * again {
			r = r.Sent(1<<20, sending)
			if r.Worth() {
				r = r.Compressed(1<<19, compressing)
			} else {
				r = r.Withheld()
			}
		}
		return r.Withheld().Worth()
	}
	if !settle(8*time.Millisecond) || settle(time.Millisecond) || !settle(8*time.Millisecond) {
		t.Error("the rates do not follow")
	}
}
