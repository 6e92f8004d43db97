package replica

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestPayloads(t *testing.T) {
	for _, g := range goldenPayloads() {
		t.Run(g.t.String(), func(t *testing.T) {
			b := g.value.Append([]byte("kept"))
			compare(t, b, append([]piece{text("what was there", "kept")}, g.pieces...))
			b = b[4:]
			v, err := g.decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(v, g.value) {
				t.Errorf("decoded %+v, want %+v", v, g.value)
			}
			for n := range b {
				if v, err := g.decode(b[:n]); !errors.Is(err, ErrMalformed) || !reflect.ValueOf(v).IsZero() {
					t.Errorf("cut at byte %d: %+v, %v", n, v, err)
				}
			}
			if v, err := g.decode(append(bytes.Clone(b), 0)); !errors.Is(err, ErrMalformed) {
				t.Errorf("a byte too many: %+v, %v", v, err)
			}
		})
	}
}

func TestDecodedValuesOwnTheirMemory(t *testing.T) {
	b := Prepare{Spec: []byte("spec")}.Append(nil)
	p, err := DecodePrepare(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if string(p.Spec) != "spec" {
		t.Errorf("spec became %q", p.Spec)
	}
}

func TestPayloadBitFlipsDoNotPanic(t *testing.T) {
	for _, g := range goldenPayloads() {
		b := g.value.Append(nil)
		for bit := range len(b) * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			_, _ = g.decode(b)
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestRefusesLyingCounts(t *testing.T) {
	many := Blocks{Blocks: make([]Block, MaxBlocks+1)}.Append(nil)
	cases := map[string]func() error{
		"blocks": func() error {
			_, err := DecodeBlocks(x("", "0000 00000000 00000000 00000000 ffffffff").bytes)
			return err
		},
		"many blocks": func() error { _, err := DecodeBlocks(many); return err },
		"addresses":   func() error { _, err := DecodeAddresses(x("", "ffffffff").bytes); return err },
		"odd IP": func() error {
			_, err := DecodeAddresses(x("", "00000001 0000 525400000001 05 0102030405").bytes)
			return err
		},
		"cards":         func() error { _, err := DecodeCards(x("", "ffffffff").bytes); return err },
		"features":      func() error { _, err := DecodeCards(x("", "00000001 ffffffff").bytes); return err },
		"MTUs":          func() error { _, err := DecodeCards(x("", "00000000 ffffffff").bytes); return err },
		"ports":         func() error { _, err := DecodePorts(x("", "ffffffff").bytes); return err },
		"spec":          func() error { _, err := DecodePrepare(x("", "ffffffff").bytes); return err },
		"pages":         func() error { _, err := DecodePages(x("", "ffffffff").bytes); return err },
		"page data":     func() error { _, err := DecodePages(x("", "00000001 0000000000000000").bytes); return err },
		"zero and data": func() error { _, err := DecodePages(x("", "00000001 0000000000000800 00").bytes); return err },
		"packet":        func() error { _, err := DecodeOutput(x("", "0000 00000002 00").bytes); return err },
		"huge packet":   func() error { _, err := DecodeOutput(x("", "0000 ffffffff 00").bytes); return err },
		"long name": func() error {
			_, err := DecodeTookOver(TookOver{strings.Repeat("h", MaxName+1)}.Append(nil))
			return err
		},
	}
	for name, decode := range cases {
		if err := decode(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReasonsAreCut(t *testing.T) {
	long := strings.Repeat("why? ", MaxReason)
	b, err := DecodeBye(Bye{Reason: long}.Append(nil))
	if err != nil || b.Reason != long[:MaxReason] {
		t.Errorf("%d bytes, %v", len(b.Reason), err)
	}
}

func TestPages(t *testing.T) {
	one, two := bytes.Repeat([]byte{0xa1}, PageSize), bytes.Repeat([]byte{0xa2}, PageSize)
	var b PageBatch
	if err := errors.Join(b.Page(0, 0, one), b.Zero(MaxBlocks-1, 1<<40), b.Page(5, PageSize, two)); err != nil {
		t.Fatal(err)
	}
	p := b.Append(nil)
	compare(t, p, goldenPages)
	if b.Len() != 3 || b.Size() != len(p) {
		t.Errorf("%d pages in %d bytes", b.Len(), b.Size())
	}
	pages, err := DecodePages(p)
	if err != nil || pages.Len() != 3 {
		t.Fatalf("%d pages, %v", pages.Len(), err)
	}
	want := []Page{{Data: one}, {Block: MaxBlocks - 1, Offset: 1 << 40, Zero: true}, {Block: 5, Offset: PageSize, Data: two}}
	for i, w := range want {
		if got, ok := pages.Next(); !ok || !reflect.DeepEqual(got, w) {
			t.Errorf("page %d is wrong", i)
		}
	}
	if _, ok := pages.Next(); ok {
		t.Error("a page too many")
	}
	for n := range p {
		if _, err := DecodePages(p[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut at byte %d: %v", n, err)
		}
	}
}

func TestPageBatchJoinsNeighbours(t *testing.T) {
	memory := make([]byte, 4*PageSize)
	page := func(i int) []byte { return memory[i*PageSize : (i+1)*PageSize] }
	for i := range memory {
		memory[i] = byte(i >> 12)
	}
	var b PageBatch
	for _, i := range []int{0, 1, 3, 2} {
		if err := b.Page(0, uint64(i)*PageSize, page(i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.Parts()); n != 4 {
		t.Errorf("%d parts, want 4: head, pages 0 and 1, page 3, page 2", n)
	}
	pages, err := DecodePages(b.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	for p, ok := pages.Next(); ok; p, ok = pages.Next() {
		if !bytes.Equal(p.Data, page(int(p.Offset/PageSize))) {
			t.Errorf("page at %#x is wrong", p.Offset)
		}
	}
}

func TestPageBatchRefuses(t *testing.T) {
	var b PageBatch
	page := make([]byte, PageSize)
	for _, err := range []error{b.Page(0, 0, page[1:]), b.Page(MaxBlocks, 0, page), b.Page(-1, 0, page), b.Page(0, 5, page), b.Zero(0, 1<<11)} {
		if err == nil || errors.Is(err, ErrFull) {
			t.Errorf("error %v", err)
		}
	}
	if b.Len() != 0 || len(b.Append(nil)) != 4 {
		t.Errorf("%d pages after refusals", b.Len())
	}
}

func TestFullBatchesFitAFrame(t *testing.T) {
	var pages PageBatch
	page, n := make([]byte, PageSize), uint64(0)
	var err error
	for ; err == nil; n++ {
		err = pages.Page(0, n*PageSize, page)
	}
	if !errors.Is(err, ErrFull) || pages.Size() > MaxPayload || pages.Size() < MaxPayload-2*PageSize {
		t.Errorf("%d bytes, %v", pages.Size(), err)
	}
	for ; pages.Zero(0, n*PageSize) == nil; n++ {
	}
	if pages.Size() > MaxPayload {
		t.Errorf("%d bytes", pages.Size())
	}
	if _, err := DecodePages(pages.Append(nil)); err != nil {
		t.Error(err)
	}
	pages.Reset()
	if pages.Len() != 0 || pages.Size() != 4 {
		t.Errorf("%d pages after Reset", pages.Len())
	}
}

func TestOutput(t *testing.T) {
	var b OutputBatch
	if err := errors.Join(b.Frame(1, []byte("ping")), b.Frame(0, nil), b.Frame(2, []byte("pong!"))); err != nil {
		t.Fatal(err)
	}
	compare(t, b.Payload(), []piece{
		x("port", "00 01"), x("length", "00 00 00 04"), text("packet", "ping"),
		x("port", "00 00"), x("length", "00 00 00 00"),
		x("port", "00 02"), x("length", "00 00 00 05"), text("packet", "pong!"),
	})
	o, err := DecodeOutput(b.Payload())
	if err != nil || o.Len() != 3 || b.Len() != 3 {
		t.Fatalf("%d frames, %v", o.Len(), err)
	}
	for _, want := range []Frame{{1, []byte("ping")}, {0, []byte{}}, {2, []byte("pong!")}} {
		if got, ok := o.Next(); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if _, ok := o.Next(); ok {
		t.Error("a frame too many")
	}
	whole := map[int]bool{0: true, 10: true, 16: true}
	for n := range b.Payload() {
		if _, err := DecodeOutput(b.Payload()[:n]); (err == nil) != whole[n] {
			t.Errorf("cut at byte %d: %v", n, err)
		}
	}
}

func TestOutputBatchIsBounded(t *testing.T) {
	var b OutputBatch
	if err := b.Frame(0, make([]byte, MaxFrame+1)); err == nil || errors.Is(err, ErrFull) {
		t.Errorf("error %v", err)
	}
	frame := make([]byte, MaxFrame)
	var err error
	for err == nil {
		err = b.Frame(0, frame)
	}
	if !errors.Is(err, ErrFull) || len(b.Payload()) > MaxPayload {
		t.Errorf("%d bytes, %v", len(b.Payload()), err)
	}
}
