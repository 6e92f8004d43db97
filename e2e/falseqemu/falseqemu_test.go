package falseqemu

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

const memory = 16 << 20

// sink counts what a reader finds.
type sink struct {
	blocks []colo.Block
	pages  map[uint64][]byte
	count  int
}

func (s *sink) Blocks(b []colo.Block) error { s.blocks = b; return nil }
func (s *sink) Page(_ int, offset uint64) ([]byte, error) {
	s.count++
	b := make([]byte, colo.PageSize)
	s.pages[offset] = b
	return b, nil
}
func (s *sink) Zero(int, uint64) error { s.count++; return nil }

// TestStreamsAreCOLO: what is played can be read, page for page.
func TestStreamsAreCOLO(t *testing.T) {
	for _, series := range []int{10, 11} {
		t.Run(fmt.Sprint(series), func(t *testing.T) { streamsAreCOLO(t, series) })
	}
}

func streamsAreCOLO(t *testing.T, series int) {
	g := Guest{Seed: 300, Dirty: 200, Device: 1000, Series: series}
	live := checkpoint(g, memory)
	first := bytes.Clone(live)
	dirty(live, g, 1)
	r := colo.NewReader(io.MultiReader(bytes.NewReader(firstCopy(g, memory)), bytes.NewReader(first), bytes.NewReader(live)), colo.DefaultLimits())
	if h, err := r.Header(); err != nil || h.Machine != "pc-1" {
		t.Fatal(h, err)
	}
	seed := &sink{pages: map[uint64][]byte{}}
	if err := r.Initial(seed); err != nil {
		t.Fatal(err)
	}
	if seed.count != g.Seed+1 || len(seed.pages) != g.Seed || seed.blocks[0] != (colo.Block{Name: "ram0", Size: memory}) {
		t.Errorf("first copy: %d pages of %v", seed.count, seed.blocks)
	}
	var epochs [2]*sink
	for i := range epochs {
		epochs[i] = &sink{pages: map[uint64][]byte{}}
		if err := r.Live(epochs[i]); err != nil {
			t.Fatal(err)
		}
		device, err := r.DeviceState(nil)
		if err != nil || len(device) != g.Device || epochs[i].count != g.Dirty {
			t.Fatalf("checkpoint %d: %d pages, %d bytes of device state, %v", i, epochs[i].count, len(device), err)
		}
	}
	for offset, page := range epochs[0].pages {
		if bytes.Equal(page, epochs[1].pages[offset]) {
			t.Fatalf("page %#x is not dirty", offset)
		}
	}
}

func TestParse(t *testing.T) {
	for _, g := range []Guest{{Seed: 1, Dirty: 2, Device: 3, Hang: 4}, {Fault: BadCheckpoint, Dirty: 1}, {}} {
		got, err := Parse(g.String())
		if err != nil || got != g {
			t.Errorf("%q: %+v, %v", g, got, err)
		}
	}
	if g, err := Parse("hangs up"); err != nil || g != (Guest{Fault: HangsUp, Seed: 1, Dirty: 1, Device: 64, Series: 10}) {
		t.Errorf("%+v, %v", g, err)
	}
	for _, bad := range []string{"dirty=x", "unheard-of=1", "dirty=-1"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestOptions(t *testing.T) {
	args := []string{"-qmp", "a", "-qmp", "b", "-append", ""}
	if got := options(args, "-qmp"); len(got) != 2 || got[1] != "b" {
		t.Error(got)
	}
	if option(args, "-append") != "" || option(nil, "-x") != "" {
		t.Error("option")
	}
}
