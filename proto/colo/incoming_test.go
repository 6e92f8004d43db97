package colo

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func machine() Incoming {
	bios := join([]piece{fill("", 0xc1, PageSize), fill("", 0xc2, PageSize)})
	return Incoming{
		Machine: "pc-i440fx-10.0",
		RAM:     Section{ID: 2, Version: 4},
		Blocks: []IncomingBlock{
			{Block: Block{Name: "ram0", Size: 1 << 20}, Shared: true},
			{Block: Block{Name: "pc.bios", Size: 2 * PageSize}, Data: bios},
		},
		Device: []byte("\x04of every device\x00"),
	}
}

func TestWriteIncoming(t *testing.T) {
	var b bytes.Buffer
	if err := WriteIncoming(&b, machine()); err != nil {
		t.Fatal(err)
	}
	compare(t, b.Bytes(), goldenIncoming)
}

// readIncoming takes a takeover stream apart again. What Initial leaves over
// is the device state and the description.
func readIncoming(stream []byte, limits Limits) (Incoming, error) {
	r, m := newReader(bytes.NewReader(stream), limits, 512), &memory{}
	h, err := r.Header()
	if err != nil {
		return Incoming{}, err
	}
	if err := r.Initial(m); err != nil {
		return Incoming{}, err
	}
	rest, err := io.ReadAll(r.buf)
	if err != nil {
		return Incoming{}, err
	}
	device, ok := bytes.CutSuffix(rest, []byte("\x06\x00\x00\x00\x02{}"))
	if !ok {
		return Incoming{}, errors.New("no description")
	}
	in := Incoming{Machine: h.Machine, RAM: r.Section(), Device: append([]byte{sectionFull}, device...)}
	for i, b := range m.blocks {
		in.Blocks = append(in.Blocks, IncomingBlock{Block: b, Data: m.data[i]})
	}
	return in, nil
}

func TestIncomingReadsBack(t *testing.T) {
	want := machine()
	var b bytes.Buffer
	if err := WriteIncoming(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := readIncoming(b.Bytes(), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want.Blocks[0].Shared, want.Blocks[0].Data = false, make([]byte, 1<<20)
	if !reflect.DeepEqual(got, want) {
		t.Error("another machine came back")
	}
}

func TestWriteIncomingRefusesHalfAMachine(t *testing.T) {
	cases := map[string]func(*Incoming){
		"no machine name":     func(in *Incoming) { in.Machine = "" },
		"long machine name":   func(in *Incoming) { in.Machine = strings.Repeat("m", 256) },
		"no blocks":           func(in *Incoming) { in.Blocks = nil },
		"no device state":     func(in *Incoming) { in.Device = nil },
		"block without name":  func(in *Incoming) { in.Blocks[0].Name = "" },
		"long block name":     func(in *Incoming) { in.Blocks[0].Name = strings.Repeat("b", 256) },
		"half a page":         func(in *Incoming) { in.Blocks[0].Size = 2048 },
		"block without bytes": func(in *Incoming) { in.Blocks[1].Data = nil },
		"block too short":     func(in *Incoming) { in.Blocks[1].Data = in.Blocks[1].Data[1:] },
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			in := machine()
			damage(&in)
			var b bytes.Buffer
			if err := WriteIncoming(&b, in); err == nil || b.Len() > 0 {
				t.Errorf("error %v, %d bytes written", err, b.Len())
			}
		})
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriteIncomingReportsTheWriter(t *testing.T) {
	if err := WriteIncoming(brokenPipe{}, machine()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
}
