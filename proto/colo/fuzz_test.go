package colo

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzReader looks for panics and for pages outside their block, which the
// memory sink turns into panics.
func FuzzReader(f *testing.F) {
	f.Add(channel())
	f.Add(channel11())
	f.Add(join(goldenIncoming))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = whole(small(b), &memory{})
	})
}

// FuzzCheckpoint starts where the fuzzer cannot easily get: in the middle.
func FuzzCheckpoint(f *testing.F) {
	f.Add(join(goldenMemory, goldenFull, goldenCheckpoint))
	f.Add(join(goldenCheckpoint[2:]))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, m := small(b), &memory{}
		r.section, r.started = Section{ID: 2, Version: 4}, true
		r.blocks = []Block{{"ram0", 3 * PageSize}, {"pc.bios", PageSize}}
		r.index = map[string]int{"ram0": 0, "pc.bios": 1}
		if err := m.Blocks(r.blocks); err != nil {
			t.Fatal(err)
		}
		if r.Live(m) == nil {
			_, _ = r.DeviceState(nil)
		}
	})
}

// FuzzIncoming reads, writes and reads again: the same machine must come back.
func FuzzIncoming(f *testing.F) {
	f.Add(join(goldenIncoming))
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := readIncoming(b, smallLimits)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := WriteIncoming(&again, in); err != nil {
			t.Fatal(err)
		}
		back, err := readIncoming(again.Bytes(), smallLimits)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, in) {
			t.Error("another machine came back")
		}
	})
}
