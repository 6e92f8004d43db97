package colo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"testing"
)

// memory is a Sink with real memory. It checks what a reader promises.
type memory struct {
	blocks      []Block
	data        [][]byte
	pages, zero int
}

func (m *memory) Blocks(blocks []Block) error {
	if m.blocks != nil {
		return errors.New("Blocks called twice")
	}
	m.blocks = slices.Clone(blocks)
	for _, b := range blocks {
		m.data = append(m.data, make([]byte, b.Size))
	}
	return nil
}

func (m *memory) Page(block int, offset uint64) ([]byte, error) {
	m.pages++
	return m.data[block][offset : offset+PageSize : offset+PageSize], nil
}

func (m *memory) Zero(block int, offset uint64) error {
	m.zero++
	clear(m.data[block][offset : offset+PageSize])
	return nil
}

var smallLimits = Limits{Blocks: 4, RAM: 2 << 20, DeviceState: 1 << 10}

// whole reads a channel from its start to the end of its first checkpoint.
func whole(r *Reader, s Sink) (h Header, device []byte, err error) {
	steps := []func() error{
		func() (err error) { h, err = r.Header(); return err },
		func() error { return r.Initial(s) },
		func() error { return r.Expect(CheckpointRequest) },
		func() error { return r.Expect(VMStateSend) },
		func() error { return r.Live(s) },
		func() (err error) { device, err = r.DeviceState([]byte("kept ")); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return h, device, err
		}
	}
	return h, device, nil
}

// small is a reader of b that costs little to make.
func small(b []byte) *Reader { return newReader(bytes.NewReader(b), smallLimits, 512) }

func channel() []byte {
	return join(goldenHeader, goldenEnableCOLO, goldenStart, goldenMemory, goldenFull, goldenCheckpoint)
}

// channel11 is the same from QEMU 11.
func channel11() []byte {
	return join(goldenHeader, goldenReturnPath, goldenStart, goldenMemory, goldenFull, goldenCheckpoint11)
}

func TestReadsAChannel(t *testing.T) {
	for name, stream := range map[string][]byte{"QEMU 10": channel(), "QEMU 11": channel11()} {
		t.Run(name, func(t *testing.T) { readsAChannel(t, stream) })
	}
}

func TestReturnPathEnd(t *testing.T) { compare(t, AppendReturnPathEnd(nil), goldenReturnPathEnd) }

func readsAChannel(t *testing.T, stream []byte) {
	m := &memory{}
	r := NewReader(bytes.NewReader(stream), DefaultLimits())
	h, device, err := whole(r, m)
	if err != nil {
		t.Fatal(err)
	}
	if h.Machine != "pc-i440fx-10.0.foo" || h.Capabilities != nil {
		t.Errorf("header %+v", h)
	}
	if want := (Section{ID: 2, Version: 4}); r.Section() != want {
		t.Errorf("section %+v, want %+v", r.Section(), want)
	}
	if want := []Block{{"ram0", 3 * PageSize}, {"pc.bios", PageSize}}; !reflect.DeepEqual(m.blocks, want) {
		t.Errorf("blocks %+v, want %+v", m.blocks, want)
	}
	if m.pages != 3 || m.zero != 2 {
		t.Errorf("%d pages and %d of zeros", m.pages, m.zero)
	}
	ram := join([]piece{fill("", 0xa1, PageSize), fill("", 0, PageSize), fill("", 0xa2, PageSize)})
	if !bytes.Equal(m.data[0], ram) || m.data[1][0] != 0xb1 {
		t.Error("memory is wrong")
	}
	if string(device) != "kept state" {
		t.Errorf("device state %q", device)
	}
	if err := r.Expect(CheckpointRequest); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestResetKeepsWhatIsKnown(t *testing.T) {
	m := &memory{}
	stale := append(join(goldenHeader, goldenStart, goldenMemory, goldenFull), "device state of the migration"...)
	r := NewReader(bytes.NewReader(stale), DefaultLimits())
	if _, err := r.Header(); err != nil {
		t.Fatal(err)
	}
	if err := r.Initial(m); err != nil {
		t.Fatal(err)
	}
	if r.Buffered() != len("device state of the migration") {
		t.Errorf("%d bytes buffered", r.Buffered())
	}
	r.Reset(bytes.NewReader(join(goldenCheckpoint[2:])))
	if r.Buffered() != 0 {
		t.Errorf("%d bytes buffered after Reset", r.Buffered())
	}
	if err := r.Live(m); err != nil {
		t.Fatal(err)
	}
	if m.data[1][0] != 0xb1 {
		t.Error("the page went elsewhere")
	}
}

func TestConfigurationSubsections(t *testing.T) {
	sub := func(name, rest string) []piece {
		return []piece{x("subsection", fmt.Sprintf("05 %02x", len(name))), text("name", name), x("version and content", rest)}
	}
	next := []piece{x("next section", "01")}
	cases := map[string]struct {
		subsections []byte
		want        []string
		err         error
	}{
		"all known": {join(sub("configuration/target-page-bits", "00000001 0000000c"),
			sub("configuration/uuid", "00000001 00112233445566778899aabbccddeeff"),
			sub("configuration/capabilities", "00000001 00000002 01 61 02 62 63")), []string{"a", "bc"}, nil},
		"other page size":    {join(sub("configuration/target-page-bits", "00000001 0000000d")), nil, ErrMalformed},
		"other version":      {join(sub("configuration/uuid", "00000002")), nil, ErrMalformed},
		"unknown":            {join(sub("configuration/novel", "00000001")), nil, ErrMalformed},
		"many capabilities":  {join(sub("configuration/capabilities", "00000001 ffffffff")), nil, ErrMalformed},
		"capabilities twice": {join(sub("configuration/capabilities", "00000001 00000001 01 61"), sub("configuration/capabilities", "00000001 00000001 01 61")), []string{"a"}, ErrMalformed},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			stream := slices.Concat(join(goldenHeader), c.subsections, join(next))
			h, err := NewReader(bytes.NewReader(stream), DefaultLimits()).Header()
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && !slices.Equal(h.Capabilities, c.want) {
				t.Errorf("capabilities %q, want %q", h.Capabilities, c.want)
			}
		})
	}
}

func TestRefusesWhatBreaksTheFormat(t *testing.T) {
	ram0 := []piece{x("block name", "04"), text("", "ram0")}
	section := func(records ...[]piece) []byte {
		return join(append([][]piece{{x("section part", "02 00000002")}}, records...)...)
	}
	cases := map[string]struct {
		sections []byte
		want     error
	}{
		"device section":          {join([]piece{x("", "04")}), ErrMalformed},
		"unknown section":         {join([]piece{x("", "09")}), ErrMalformed},
		"another live section":    {join([]piece{x("", "01 00000003 04"), text("", "vfio")}), ErrMalformed},
		"RAM with another id":     {join([]piece{x("", "01 00000003 03"), text("", "ram"), x("", "00000000 00000004")}), ErrMalformed},
		"part of another section": {join([]piece{x("", "02 00000003")}), ErrMalformed},
		"page past the end":       {section([]piece{x("", "0000000000003008")}, ram0), ErrMalformed},
		"page far past the end":   {section([]piece{x("", "fffffffffffff008")}, ram0), ErrMalformed},
		"zero page past the end":  {section([]piece{x("", "0000000000003002")}, ram0), ErrMalformed},
		"page of no block":        {section([]piece{x("", "0000000000000028")}), ErrMalformed},
		"page of unknown block":   {section([]piece{x("", "0000000000000008 01 41")}), ErrMalformed},
		"filled page":             {section([]piece{x("", "0000000000000002")}, ram0, []piece{x("", "ff")}), ErrMalformed},
		"unknown flags":           {section([]piece{x("", "0000000000000048")}), ErrMalformed},
		"no flags":                {section([]piece{x("", "0000000000000000")}), ErrMalformed},
		"second block list":       {section([]piece{x("", "0000000000001004")}), ErrMalformed},
		"no footer":               {section([]piece{x("", "0000000000000010 7f")}), ErrMalformed},
		"wrong footer":            {section([]piece{x("", "0000000000000010 7e 00000003")}), ErrMalformed},
		"packaged command":        {join([]piece{x("", "08 0007 0004")}), ErrMalformed},
		"long command":            {join([]piece{x("", "08 000b 1001")}), ErrMalformed},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := NewReader(bytes.NewReader(append(join(goldenHeader, goldenStart), c.sections...)), smallLimits)
			if _, err := r.Header(); err != nil {
				t.Fatal(err)
			}
			if err := r.Live(&memory{}); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func TestBoundsTheBlockList(t *testing.T) {
	cases := map[string]struct {
		list string
		want error
	}{
		"too much RAM":       {"0000000000201004", ErrLimit},
		"all the RAM":        {"fffffffffffff004", ErrLimit},
		"empty":              {"0000000000000004", ErrMalformed},
		"more than total":    {"0000000000001004 01 41 0000000000002000", ErrMalformed},
		"half a page":        {"0000000000001004 01 41 0000000000000800", ErrMalformed},
		"no name":            {"0000000000001004 00 0000000000001000", ErrMalformed},
		"twice":              {"0000000000002004 01 41 0000000000001000 01 41 0000000000001000", ErrMalformed},
		"too many":           {"0000000000005004 01 41 0000000000001000 01 42 0000000000001000 01 43 0000000000001000 01 44 0000000000001000", ErrLimit},
		"too many and empty": {"0000000000001004 01 41 0000000000000000 01 42 0000000000000000 01 43 0000000000000000 01 44 0000000000000000", ErrLimit},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := NewReader(bytes.NewReader(join(goldenStart[:6], []piece{x("", c.list)})), smallLimits)
			if err := r.Initial(&memory{}); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func TestBoundsTheDeviceState(t *testing.T) {
	for _, size := range []string{"0000000000000401", "ffffffffffffffff"} {
		r := NewReader(bytes.NewReader(join([]piece{x("vmstate size", "00000004"), x("size", size)})), smallLimits)
		if b, err := r.DeviceState([]byte("kept")); !errors.Is(err, ErrLimit) || string(b) != "kept" {
			t.Errorf("size %s: %q, %v", size, b, err)
		}
	}
}

func TestTruncatedAtEveryByte(t *testing.T) {
	stream := channel()
	for n := range stream {
		_, _, err := whole(small(stream[:n]), &memory{})
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Fatalf("cut at byte %d: %v", n, err)
		}
	}
}

func TestBitFlipsDoNotPanic(t *testing.T) {
	for _, stream := range [][]byte{channel(), join(goldenIncoming)} {
		for bit := range len(stream) * 8 {
			if bit/8%512 != 0 && inPage(stream, bit/8) {
				continue // a byte of a page is as good as its neighbours
			}
			stream[bit/8] ^= 1 << (bit % 8)
			_, _, _ = whole(small(stream), &memory{})
			stream[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func inPage(b []byte, i int) bool { return i > 0 && i < len(b)-1 && b[i-1] == b[i] && b[i] == b[i+1] }

// failing is a Sink that refuses.
type failing struct{ memory }

var errSink = errors.New("sink is full")

func (f *failing) Page(int, uint64) ([]byte, error) { return nil, errSink }

// short is a Sink that gives too little room.
type short struct{ memory }

func (s *short) Page(int, uint64) ([]byte, error) { return make([]byte, 7), nil }

func TestSinkErrorsEndTheReading(t *testing.T) {
	if _, _, err := whole(NewReader(bytes.NewReader(channel()), smallLimits), &failing{}); !errors.Is(err, errSink) {
		t.Errorf("error %v, want %v", err, errSink)
	}
	if _, _, err := whole(NewReader(bytes.NewReader(channel()), smallLimits), &short{}); err == nil {
		t.Error("no error for a page of 7 bytes")
	}
}

func TestMessages(t *testing.T) {
	var b []byte
	all := []Message{CheckpointReady, CheckpointRequest, CheckpointReply, VMStateSend, VMStateSize, VMStateReceived, VMStateLoaded}
	for _, m := range all {
		b = AppendMessage(b, m)
	}
	compare(t, b, []piece{
		x("ready", "00000000"), x("request", "00000001"), x("reply", "00000002"), x("send", "00000003"),
		x("size", "00000004"), x("received", "00000005"), x("loaded", "00000006"),
	})
	r := NewReader(bytes.NewReader(append(b, 0, 0, 0, 7)), DefaultLimits())
	for _, m := range all {
		if got, err := r.Message(); got != m || err != nil {
			t.Fatalf("%v, %v; want %v", got, err, m)
		}
	}
	if m, err := r.Message(); !errors.Is(err, ErrMalformed) {
		t.Errorf("%v, %v; want %v", m, err, ErrMalformed)
	}
	r.Reset(bytes.NewReader(AppendMessage(nil, VMStateSend)))
	if err := r.Expect(VMStateSize); !errors.Is(err, ErrMalformed) {
		t.Errorf("%v; want %v", err, ErrMalformed)
	}
}
