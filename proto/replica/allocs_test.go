package replica

import (
	"bytes"
	"testing"
)

// TestFramesAllocateNothing takes frames to the other host and apart, as output
// and as input log.
func TestFramesAllocateNothing(t *testing.T) {
	const frames = 64
	var batch OutputBatch
	var wire bytes.Buffer
	w, r, packet, head := NewWriter(&wire), NewReader(&wire), make([]byte, 1500), []byte(nil)
	pass := func() {
		batch.Reset()
		for range frames {
			if err := batch.Frame(1, packet); err != nil {
				t.Fatal(err)
			}
		}
		head = AppendInputLogHead(head[:0], 1)
		if err := w.Write(Header{Type: TypeInputLog}, head, batch.Payload()); err != nil {
			t.Fatal(err)
		}
		_, payload, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		m, err := DecodeInputLog(payload)
		if err != nil {
			t.Fatal(err)
		}
		for range frames {
			if f, ok := m.Frames.Next(); !ok || len(f.Data) != len(packet) {
				t.Fatal("a frame is missing")
			}
		}
	}
	pass()
	if n := testing.AllocsPerRun(50, pass); n != 0 {
		t.Errorf("%v allocations for %d frames", n, frames)
	}
}
