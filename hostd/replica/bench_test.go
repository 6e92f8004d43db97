package replica

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	wire "github.com/stillpoint-ft/stillpoint/proto/replica"
)

// shipment is one epoch as the wire brings it.
type shipment struct {
	begin   wire.EpochBegin
	batches [][]byte
	device  []byte
	output  []byte
}

const batchPages = 64

// shipmentOf pages, one in eight of them zero, spread over RAM.
func shipmentOf(pages, ram int) *shipment {
	s := &shipment{begin: wire.EpochBegin{Pages: uint64(pages), Device: 64 << 10}, device: make([]byte, 64<<10)}
	data := page(7)
	var b wire.PackedBatch
	for i := range pages {
		offset := uint64(i*37%ram) * pageSize
		if i%8 == 0 {
			b.Zero(0, offset)
			s.begin.ZeroPages++
		} else {
			b.Page(0, offset, data)
		}
		if (i+1)%batchPages == 0 || i+1 == pages {
			s.batches = append(s.batches, slices.Concat(b.Parts()...))
			b.Reset()
		}
	}
	var out wire.OutputBatch
	for range 20 {
		if err := out.Frame(0, make([]byte, 1500)); err != nil {
			panic(err)
		}
		s.begin.Output++
	}
	s.output = append([]byte(nil), out.Payload()...)
	return s
}

func (s *shipment) commit(t testing.TB, r *Replica, number uint64) {
	for _, err := range []error{r.Begin(number, s.begin), s.pages(r), r.Device(s.device), r.Output(s.output), r.End(number), r.Apply()} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (s *shipment) pages(r *Replica) error {
	for _, b := range s.batches {
		if err := r.Packed(b); err != nil {
			return err
		}
	}
	return nil
}

func benchReplica(t testing.TB, pages int) *Replica {
	path := filepath.Join(t.TempDir(), "ram")
	if err := os.WriteFile(path, make([]byte, pages*pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := New(Options{RAMFile: path, RAMBlock: "ram0", RAMSize: uint64(pages) * pageSize, Device: 1 << 20, Output: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if err := r.SetBlocks(wire.Blocks{MachineName: "pc", Blocks: []wire.Block{{Name: "ram0", Size: uint64(pages) * pageSize}}}); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEpochsAllocateNothing: once the first have come.
func TestEpochsAllocateNothing(t *testing.T) {
	r, s, n := benchReplica(t, 1024), shipmentOf(1000, 1024), uint64(0)
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

func BenchmarkEpoch(b *testing.B) { benchEpochs(b, shipmentOf) }

func BenchmarkPackedEpoch(b *testing.B) { benchEpochs(b, packedShipment) }

func benchEpochs(b *testing.B, make func(pages, ram int) *shipment) {
	for _, pages := range []int{20, 200, 1000, 5000, 20000} {
		b.Run(fmt.Sprintf("pages=%d", pages), func(b *testing.B) {
			r, s, n := benchReplica(b, 32768), make(pages, 32768), uint64(0)
			b.ReportAllocs()
			b.SetBytes(int64(pages) * pageSize)
			for b.Loop() {
				n++
				s.commit(b, r, n)
			}
		})
	}
}
