package replica

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzFrames reads frames, writes them and expects the same bytes.
func FuzzFrames(f *testing.F) {
	f.Add(golden(f))
	f.Add(frameBytes(f, Header{Type: TypeAck, Epoch: 1, Generation: 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, at := NewReader(bytes.NewReader(b)), 0
		for {
			h, p, err := r.Next()
			if err != nil {
				return
			}
			again := frameBytes(t, h, p)
			if !bytes.Equal(again, b[at:at+len(again)]) {
				t.Fatalf("%+v written differently", h)
			}
			at += len(again)
		}
	})
}

// FuzzPayloads decodes, encodes and decodes every payload that is a struct.
func FuzzPayloads(f *testing.F) {
	all := goldenPayloads()
	for _, g := range all {
		f.Add(uint8(g.t), g.value.Append(nil))
	}
	f.Fuzz(func(t *testing.T, typ uint8, p []byte) {
		for _, g := range all {
			if uint8(g.t) != typ {
				continue
			}
			v, err := g.decode(p)
			if err != nil {
				return
			}
			again := v.(interface{ Append([]byte) []byte }).Append(nil)
			if !bytes.Equal(again, p) {
				t.Fatalf("%+v encoded as % x", v, again)
			}
			if back, err := g.decode(again); err != nil || !reflect.DeepEqual(back, v) {
				t.Fatalf("%+v came back as %+v, %v", v, back, err)
			}
		}
	})
}

// FuzzPages decodes a batch, builds it again and expects the same bytes.
func FuzzPages(f *testing.F) {
	var seed PageBatch
	f.Add(seed.Append(nil))
	_ = seed.Zero(3, 1<<30)
	_ = seed.Page(1, PageSize, make([]byte, PageSize))
	f.Add(seed.Append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		pages, err := DecodePages(p)
		if err != nil || len(p) > MaxPayload {
			return
		}
		var b PageBatch
		for page, ok := pages.Next(); ok; page, ok = pages.Next() {
			if page.Zero {
				err = b.Zero(page.Block, page.Offset)
			} else {
				err = b.Page(page.Block, page.Offset, page.Data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(b.Append(nil), p) {
			t.Error("another batch came out")
		}
	})
}

// FuzzOutput does the same with packets.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x00\x00\x04ping\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, p []byte) {
		o, err := DecodeOutput(p)
		if err != nil || len(p) > MaxPayload {
			return
		}
		var b OutputBatch
		for frame, ok := o.Next(); ok; frame, ok = o.Next() {
			if err := b.Frame(frame.Port, frame.Data); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(b.Payload(), p) {
			t.Error("another batch came out")
		}
	})
}
