package agent

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func frame(t testing.TB, h Header, payload []byte) []byte {
	t.Helper()
	b, err := Append(nil, h, payload)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// payloads has one of each kind, with its decoder.
func payloads() []struct {
	t      Type
	value  any
	bytes  []byte
	decode func([]byte) (any, error)
} {
	quiesce := Quiesce{Request: 7, Deadline: 17 * time.Millisecond, Hold: time.Second}
	resume := Resume{Request: 7, TakenOver: true, Generation: 3}
	welcome := Welcome{Library: "0.1.0", Ports: []PortInfo{{"in", 1, 2}, {"out", 3, 4}}}
	quiescent := Quiescent{Request: 7, Ports: []PortCounters{{1, 2}, {3, 1 << 40}}}
	busy := Busy{Request: 7, Packets: 5, Queues: 1}
	resumed := Resumed{Request: 7, Expired: true}
	return []struct {
		t      Type
		value  any
		bytes  []byte
		decode func([]byte) (any, error)
	}{
		{TypeQuiesce, quiesce, quiesce.Append(nil), func(p []byte) (any, error) { return DecodeQuiesce(p) }},
		{TypeResume, resume, resume.Append(nil), func(p []byte) (any, error) { return DecodeResume(p) }},
		{TypeWelcome, welcome, welcome.Append(nil), func(p []byte) (any, error) { return DecodeWelcome(p) }},
		{TypeQuiescent, quiescent, quiescent.Append(nil), func(p []byte) (any, error) { return DecodeQuiescent(p) }},
		{TypeBusy, busy, busy.Append(nil), func(p []byte) (any, error) { return DecodeBusy(p) }},
		{TypeResumed, resumed, resumed.Append(nil), func(p []byte) (any, error) { return DecodeResumed(p) }},
	}
}

func TestGolden(t *testing.T) {
	got := frame(t, Header{TypeQuiesce, 0x1122334455667788, 9}, Quiesce{7, 17 * time.Millisecond, time.Second}.Append(nil))
	want := strings.Join([]string{
		"53504147",         // magic
		"01",               // version
		"02",               // quiesce
		"0010",             // length
		"1122334455667788", // session
		"0000000000000009", // epoch
		"f1c897b7",         // header checksum
		"6c8eca4a",         // payload checksum
		"0000000000000007", // request
		"00004268",         // deadline
		"000f4240",         // hold
	}, "")
	if hex.EncodeToString(got) != want {
		t.Errorf("got  %x\nwant %s", got, want)
	}
}

func TestPayloads(t *testing.T) {
	for _, c := range payloads() {
		got, err := c.decode(c.bytes)
		if err != nil || !reflect.DeepEqual(got, c.value) {
			t.Errorf("%v: got %+v, %v, want %+v", c.t, got, err, c.value)
		}
		for n := range c.bytes {
			if got, err := c.decode(c.bytes[:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v cut at %d: got %+v, %v", c.t, n, got, err)
			}
		}
		if _, err := c.decode(append(c.bytes, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v with a byte more: %v", c.t, err)
		}
		if limit, known := c.t.Limit(); !known || len(c.bytes) > limit {
			t.Errorf("%v: %d bytes, limit %d", c.t, len(c.bytes), limit)
		}
	}
}

func TestLargestWelcomeFits(t *testing.T) {
	w := Welcome{Library: strings.Repeat("v", 99)}
	for range 99 {
		w.Ports = append(w.Ports, PortInfo{Name: strings.Repeat("p", 99)})
	}
	p := w.Append(nil)
	got, err := DecodeWelcome(p)
	if err != nil || len(p) > MaxPayload || len(got.Ports) != MaxPorts || len(got.Library) != MaxName {
		t.Errorf("%d bytes, %+v, %v", len(p), got, err)
	}
}

func TestAppendRefuses(t *testing.T) {
	if _, err := Append(nil, Header{Type: TypePing}, []byte{1}); !errors.Is(err, ErrTooLong) {
		t.Errorf("long ping: %v", err)
	}
	if _, err := Append(nil, Header{Type: 99}, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("unknown type: %v", err)
	}
}

// Cut at every byte and followed by another frame, a frame is skipped and the
// other one found.
func TestReaderResynchronises(t *testing.T) {
	ping := frame(t, Header{Type: TypePing, Session: 5, Epoch: 6}, nil)
	for _, c := range payloads() {
		whole := frame(t, Header{Type: c.t, Session: 5}, c.bytes)
		for n := 1; n < len(whole); n++ {
			stream := append(bytes.Clone(whole[:n]), ping...)
			stream = append(stream, ping...) // what a cut length may swallow for a while
			r := NewReader(iotest.OneByteReader(bytes.NewReader(stream)))
			for i := range 2 {
				if h, _, err := r.Next(); err != nil || h.Type != TypePing || h.Epoch != 6 {
					t.Fatalf("%v cut at %d: frame %d is %+v, %v", c.t, n, i, h, err)
				}
			}
			if r.Skipped() != uint64(n) {
				t.Fatalf("%v cut at %d: skipped %d", c.t, n, r.Skipped())
			}
		}
	}
}

func TestReaderNoticesEveryFlippedBit(t *testing.T) {
	whole := frame(t, Header{Type: TypeResume, Session: 5}, Resume{1, true, 2}.Append(nil))
	for bit := range len(whole) * 8 {
		bad := bytes.Clone(whole)
		bad[bit/8] ^= 1 << (bit % 8)
		if h, p, err := NewReader(bytes.NewReader(bad)).Next(); err != io.EOF {
			t.Errorf("bit %d: %+v %x, %v", bit, h, p, err)
		}
	}
}

func TestReaderInGarbage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var stream []byte
	garbage := 0
	const frames = 200
	for i := range frames {
		for range random.IntN(5000) {
			stream = append(stream, "SPAG\x00\xff"[random.IntN(6)])
			garbage++
		}
		stream = append(stream, frame(t, Header{Type: TypePong, Epoch: uint64(i)}, nil)...)
	}
	r := NewReader(iotest.HalfReader(bytes.NewReader(stream)))
	for i := range frames {
		if h, _, err := r.Next(); err != nil || h.Epoch != uint64(i) {
			t.Fatalf("frame %d: %+v, %v", i, h, err)
		}
	}
	if r.Skipped() != uint64(garbage) {
		t.Errorf("skipped %d of %d", r.Skipped(), garbage)
	}
}

func TestReaderAllocatesNothing(t *testing.T) {
	one := frame(t, Header{Type: TypePong}, nil)
	source := bytes.NewReader(bytes.Repeat(one, 2000))
	r := NewReader(source)
	if n := testing.AllocsPerRun(1000, func() { r.Next() }); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

func FuzzReader(f *testing.F) {
	for _, c := range payloads() {
		f.Add(frame(f, Header{Type: c.t, Session: 1, Epoch: 2}, c.bytes))
	}
	f.Add([]byte("SPAGSPAG"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		frames := 0
		for {
			h, p, err := r.Next()
			if err != nil {
				break
			}
			again := frame(t, h, p)
			h2, p2, err := NewReader(bytes.NewReader(again)).Next()
			if err != nil || h2 != h || !bytes.Equal(p2, p) {
				t.Fatalf("%+v %x became %+v %x, %v", h, p, h2, p2, err)
			}
			frames += len(again)
		}
		if total := frames + int(r.Skipped()) + r.Buffered(); total != len(b) {
			t.Fatalf("%d bytes accounted for, of %d", total, len(b))
		}
	})
}

func FuzzPayloads(f *testing.F) {
	for i, c := range payloads() {
		f.Add(uint8(i), c.bytes)
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		c := payloads()[int(kind)%len(payloads())]
		value, err := c.decode(b)
		if err != nil {
			return
		}
		again := value.(interface{ Append([]byte) []byte }).Append(nil)
		if !bytes.Equal(again, b) {
			t.Fatalf("%x became %+v became %x", b, value, again)
		}
	})
}
