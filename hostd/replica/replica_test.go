package replica

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	wire "github.com/stillpoint-ft/stillpoint/proto/replica"
)

const ramPages = 64

type fixture struct {
	*Replica
	t       *testing.T
	payload []byte
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ram")
	if err := os.WriteFile(path, make([]byte, ramPages*pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := New(Options{RAMFile: path, RAMBlock: "ram0", RAMSize: ramPages * pageSize, Private: 8 * pageSize, Device: 1 << 10, Output: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return &fixture{Replica: r, t: t}
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) blocks() {
	f.t.Helper()
	f.must(f.SetBlocks(wire.Blocks{MachineName: "pc", Blocks: []wire.Block{
		{Name: "ram0", Size: ramPages * pageSize}, {Name: "pc.rom", Size: 4 * pageSize}}}))
}

func page(b byte) []byte { return bytes.Repeat([]byte{b}, pageSize) }

func pages(block int, offset uint64, fill byte) []byte {
	var b wire.PageBatch
	if fill == 0 {
		b.Zero(block, offset)
	} else {
		b.Page(block, offset, page(fill))
	}
	return b.Append(nil)
}

// changedTo is a batch of an epoch: one page, whole.
func changedTo(block int, offset uint64, fill byte) []byte {
	return packed(func(b *wire.PackedBatch) error {
		if fill == 0 {
			return b.Zero(block, offset)
		}
		return b.Page(block, offset, page(fill))
	})
}

func (f *fixture) commit(number uint64, fill byte) {
	f.t.Helper()
	f.stage(number, fill)
	f.must(f.End(number))
	f.must(f.Apply())
}

// stage sends an epoch of one page, one byte of device state and no end.
func (f *fixture) stage(number uint64, fill byte) {
	f.t.Helper()
	b := wire.EpochBegin{Pages: 1, Device: 1}
	if fill == 0 {
		b.ZeroPages = 1
	}
	f.must(f.Begin(number, b))
	f.must(f.Packed(changedTo(0, pageSize, fill)))
	f.must(f.Device([]byte{fill}))
}

func (f *fixture) at(offset int) byte { return f.RAM()[offset] }

func TestEpochIsAppliedWhole(t *testing.T) {
	f := newFixture(t)
	f.blocks()
	f.must(f.Seed(pages(0, 0, 1)))
	f.stage(1, 7)
	if f.at(pageSize) != 0 {
		t.Fatal("an open epoch touched the replica")
	}
	f.must(f.End(1))
	if n, ok := f.Staged(); !ok || n != 1 || f.Applied() != 0 || f.at(pageSize) != 0 {
		t.Fatal("a whole epoch must be held, and not yet applied")
	}
	f.must(f.Apply())
	if f.at(0) != 1 || f.at(pageSize) != 7 || f.Applied() != 1 {
		t.Fatalf("RAM has %d and %d after epoch %d", f.at(0), f.at(pageSize), f.Applied())
	}
	f.commit(2, 0)
	if f.at(pageSize) != 0 {
		t.Fatal("a zero page was not cleared")
	}
}

func TestHalfAnEpochIsDropped(t *testing.T) {
	f := newFixture(t)
	f.blocks()
	f.commit(1, 7)
	f.stage(2, 9)
	f.Drop()
	f.must(f.Apply())
	if f.at(pageSize) != 7 || f.Applied() != 1 || f.last.device[0] != 7 {
		t.Fatal("half an epoch touched the replica")
	}
	var b bytes.Buffer
	f.must(f.WriteStream(&b))
	if !bytes.Contains(b.Bytes(), []byte{7}) {
		t.Fatal("the stream lacks the device state")
	}
}

func TestProtocolErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(f *fixture) error
		want error
	}{
		{"page outside the block", func(f *fixture) error { return f.Packed(changedTo(0, ramPages*pageSize, 1)) }, ErrBound},
		{"page of no block", func(f *fixture) error { return f.Packed(changedTo(2, 0, 1)) }, ErrBound},
		{"more pages than announced", func(f *fixture) error { return f.Packed(changedTo(0, 0, 1)) }, ErrBound},
		{"too much device state", func(f *fixture) error { return f.Device(make([]byte, 8)) }, ErrOrder},
		{"too much output", func(f *fixture) error { return f.Output(outputOf(2000)) }, ErrBound},
		{"unannounced output", func(f *fixture) error { f.must(f.Output(outputOf(60))); return f.End(2) }, ErrOrder},
		{"end of another epoch", func(f *fixture) error { return f.End(3) }, ErrOrder},
		{"a second beginning", func(f *fixture) error { return f.Begin(3, wire.EpochBegin{}) }, ErrOrder},
		{"a seed page", func(f *fixture) error { return f.Seed(pages(0, 0, 1)) }, ErrOrder},
		{"a seed page between epochs", func(f *fixture) error { f.Drop(); return f.Seed(pages(0, 0, 1)) }, ErrOrder},
		{"a second list of blocks", func(f *fixture) error { return f.SetBlocks(wire.Blocks{}) }, ErrOrder},
		{"an old epoch", func(f *fixture) error { f.Drop(); return f.Begin(1, wire.EpochBegin{}) }, ErrOrder},
		{"too many pages", func(f *fixture) error { f.Drop(); return f.Begin(2, wire.EpochBegin{Pages: 1 << 40}) }, ErrBound},
		{"too large a device state", func(f *fixture) error { f.Drop(); return f.Begin(2, wire.EpochBegin{Device: 1 << 20}) }, ErrBound},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.blocks()
			f.commit(1, 7)
			f.stage(2, 9)
			if err := c.do(f); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if f.at(pageSize) != 7 || f.at(0) != 0 {
				t.Fatal("the replica was touched")
			}
		})
	}
}

func TestBlocksAreChecked(t *testing.T) {
	for name, blocks := range map[string][]wire.Block{
		"other RAM size": {{Name: "ram0", Size: pageSize}},
		"too much":       {{Name: "ram0", Size: ramPages * pageSize}, {Name: "a", Size: 6 * pageSize}, {Name: "b", Size: 6 * pageSize}},
		"odd size":       {{Name: "a", Size: 100}},
		"huge":           {{Name: "a", Size: 1 << 60}},
	} {
		f := newFixture(t)
		if err := f.SetBlocks(wire.Blocks{Blocks: blocks}); !errors.Is(err, ErrBound) {
			t.Errorf("%s: got %v, want %v", name, err, ErrBound)
		}
	}
}

func TestLastOutput(t *testing.T) {
	f := newFixture(t)
	f.blocks()
	f.must(f.Begin(1, wire.EpochBegin{Output: 1}))
	f.must(f.Output(outputOf(60)))
	f.must(f.End(1))
	f.must(f.Apply())
	sent := 0
	f.must(f.LastOutput(func(port int, frame []byte) {
		if port != 1 || len(frame) != 60 {
			t.Fatalf("port %d, %d bytes", port, len(frame))
		}
		sent++
	}))
	if sent != 1 {
		t.Fatalf("%d frames, want 1", sent)
	}
	f.commit(2, 3)
	f.must(f.LastOutput(func(int, []byte) { t.Fatal("output of an older epoch") }))
}

func outputOf(bytes int) []byte {
	var b wire.OutputBatch
	b.Frame(1, make([]byte, bytes))
	return append([]byte(nil), b.Payload()...)
}

func TestApplyAllocatesNothing(t *testing.T) {
	f := newFixture(t)
	f.blocks()
	payload, device := changedTo(0, 0, 5), make([]byte, 100)
	number := uint64(0)
	cycle := func() {
		number++
		f.must(f.Begin(number, wire.EpochBegin{Pages: 1, Device: 100}))
		f.must(f.Packed(payload))
		f.must(f.Device(device))
		f.must(f.End(number))
		f.must(f.Apply())
	}
	cycle()
	cycle()
	if n := testing.AllocsPerRun(100, cycle); n != 0 {
		t.Fatalf("%v allocations per epoch, want 0", n)
	}
}

// TestMemoryOfALargeEpoch is let go when small ones follow, and is there once: the
// pages of an applied epoch are of no more use.
func TestMemoryOfALargeEpoch(t *testing.T) {
	f := newFixture(t)
	f.blocks()
	payload := changedTo(0, 0, 5)
	commit := func(number uint64, batches int) {
		f.must(f.Begin(number, wire.EpochBegin{Pages: uint64(batches)}))
		for range batches {
			f.must(f.Packed(payload))
		}
		f.must(f.End(number))
		f.must(f.Apply())
	}
	const large, small = 20, 3
	commit(1, large)
	if n := len(f.staged.packed.batches) + len(f.last.packed.batches); n != large {
		t.Fatalf("%d batches are kept for %d batches", n, large)
	}
	for number := range uint64(large) {
		commit(2+number, small)
	}
	if n := len(f.staged.packed.batches); n > 2*small+1 {
		t.Errorf("%d batches are kept for epochs of %d batches", n, small)
	}
}

// TestMemoryOfUnevenEpochs: a large batch after ever more small ones leaves its
// memory at another place of the list each time.
func TestMemoryOfUnevenEpochs(t *testing.T) {
	const pages, large = 1024, 900
	r := benchReplica(t, pages)
	zero := changedTo(0, 0, 0)
	big := packed(func(b *wire.PackedBatch) (err error) {
		for i := range uint64(large) {
			err = errors.Join(err, b.Page(0, i*pageSize, page(1)))
		}
		return err
	})
	for n := uint64(1); n <= 40; n++ {
		err := r.Begin(n, wire.EpochBegin{Pages: n + large, ZeroPages: n})
		for range n {
			err = errors.Join(err, r.Packed(zero))
		}
		if err := errors.Join(err, r.Packed(big), r.End(n), r.Apply()); err != nil {
			t.Fatal(err)
		}
		if kept := r.staged.packed.size(); kept > r.mostKept() {
			t.Fatalf("%d MiB are kept after epoch %d", kept>>20, n)
		}
	}
}
