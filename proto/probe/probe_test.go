package probe

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

var sample = Packet{
	Stream: 0x01020304, Direction: Reply, Seq: 0x1122334455667788,
	Sent: 0x0102030405060708, Stamp: 0xa1a2a3a4a5a6a7a8, Echo: 0xb1b2b3b4b5b6b7b8,
}

func golden(t *testing.T) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join([]string{
		"5350524f42453031", // magic "SPROBE01"
		"01020304",         // stream
		"01000000",         // direction: reply, three zero bytes
		"1122334455667788", // seq
		"0102030405060708", // sent
		"a1a2a3a4a5a6a7a8", // stamp
		"b1b2b3b4b5b6b7b8", // echo
	}, ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	want := golden(t)
	if got := sample.Append(nil); !bytes.Equal(got, want) {
		t.Fatalf("Append:\n got %x\nwant %x", got, want)
	}
	for _, padding := range []int{0, 1, 1000} {
		got, err := Decode(append(golden(t), make([]byte, padding)...))
		if err != nil || got != sample {
			t.Fatalf("Decode with %d bytes of padding = %+v, %v", padding, got, err)
		}
	}
}

func TestTruncatedAtEveryByte(t *testing.T) {
	b := golden(t)
	for n := range b {
		if _, err := Decode(b[:n]); !errors.Is(err, ErrShort) {
			t.Errorf("Decode of %d bytes: %v, want ErrShort", n, err)
		}
		if Is(b[:n]) {
			t.Errorf("Is holds for %d bytes", n)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		at   int
		to   byte
		want error
	}{
		{"magic's first byte", 0, 's', ErrMagic},
		{"magic's last byte", 7, '2', ErrMagic},
		{"direction", 12, 2, ErrDirection},
		{"first reserved byte", 13, 1, ErrReserved},
		{"last reserved byte", 15, 1, ErrReserved},
	} {
		b := golden(t)
		b[c.at] = c.to
		if _, err := Decode(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample.Append(nil))
	f.Add(append(Packet{Seq: 1}.Append(nil), "padding"...))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			return
		}
		again := p.Append(nil)
		if !bytes.Equal(again, b[:HeaderLen]) {
			t.Fatalf("encoded again:\n got %x\nfrom %x", again, b[:HeaderLen])
		}
		if q, err := Decode(again); err != nil || q != p {
			t.Fatalf("decoded again: %+v, %v, want %+v", q, err, p)
		}
	})
}
