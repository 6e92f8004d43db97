package replica

import (
	"bytes"
	"errors"
	"testing"
)

func inputLog(first uint64, frames ...string) []byte {
	var b OutputBatch
	for i, f := range frames {
		if err := b.Frame(uint16(i), []byte(f)); err != nil {
			panic(err)
		}
	}
	return append(AppendInputLogHead(nil, first), b.Payload()...)
}

func TestInputLogBytes(t *testing.T) {
	compare(t, inputLog(7, "ping", "pong"), []piece{
		x("first", "00 00 00 00 00 00 00 07"),
		x("port", "00 00"), x("length", "00 00 00 04"), text("frame", "ping"),
		x("port", "00 01"), x("length", "00 00 00 04"), text("frame", "pong"),
	})
}

func TestInputLogReadsBack(t *testing.T) {
	m, err := DecodeInputLog(inputLog(7, "ping", "pong"))
	if err != nil || m.First != 7 || m.Frames.Len() != 2 {
		t.Fatalf("got %+v, %v", m, err)
	}
	if f, ok := m.Frames.Next(); !ok || f.Port != 0 || string(f.Data) != "ping" {
		t.Fatalf("got %+v", f)
	}
}

func TestBrokenInputLogsAreRefused(t *testing.T) {
	good := inputLog(7, "ping")
	for name, p := range map[string][]byte{
		"empty":          nil,
		"no number":      good[:7],
		"number zero":    inputLog(0, "ping"),
		"numbers wrap":   inputLog(1<<64-1, "ping", "pong"),
		"a frame is cut": good[:len(good)-1],
	} {
		if _, err := DecodeInputLog(p); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzInputLog decodes a batch, builds it again and expects the same bytes.
func FuzzInputLog(f *testing.F) {
	f.Add(inputLog(1))
	f.Add(inputLog(7, "ping", "pong"))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := DecodeInputLog(p)
		if err != nil {
			return
		}
		var b OutputBatch
		for frame, ok := m.Frames.Next(); ok; frame, ok = m.Frames.Next() {
			if err := b.Frame(frame.Port, frame.Data); err != nil {
				t.Fatal(err)
			}
		}
		if again := append(AppendInputLogHead(nil, m.First), b.Payload()...); !bytes.Equal(again, p) {
			t.Fatalf("% x became % x", p, again)
		}
	})
}
