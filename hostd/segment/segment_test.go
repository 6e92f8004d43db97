package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/stillpoint-ft/stillpoint/e2e/offload"
)

func TestPiecesOfAFrame(t *testing.T) {
	for name, make := range offload.Examples {
		t.Run(name, func(t *testing.T) {
			whole := make(t)
			original := append([]byte(nil), whole...)
			var c Cutter
			for range 2 {
				if err := c.Cut(whole); err != nil {
					t.Fatal(err)
				}
			}
			var pieces [][]byte
			for i := range c.Len() {
				f := c.Piece(i)
				offload.Complete(f)
				pieces = append(pieces, f)
			}
			want := gopacket.NewPacket(original[VirtioHeader:], layers.LayerTypeEthernet, gopacket.Default).TransportLayer().LayerPayload()
			if got := offload.Reassemble(t, pieces); !bytes.Equal(got, want) || !bytes.Equal(whole, original) {
				t.Errorf("%d bytes, want %d", len(got), len(want))
			}
		})
	}
}

func TestFramesThatCannotBeCut(t *testing.T) {
	good := offload.Many(t, offload.TCP4, 1448, offload.Numbered(10000))
	for name, spoil := range map[string]func(b []byte) []byte{
		"of no known kind":     func(b []byte) []byte { b[fieldKind] = 3; return b },
		"no checksum":          func(b []byte) []byte { b[fieldFlags] = 0; return b },
		"no size":              func(b []byte) []byte { b[fieldSize], b[fieldSize+1] = 0, 0; return b },
		"too many":             func(b []byte) []byte { binary.NativeEndian.PutUint16(b[fieldSize:], 1); return b },
		"cut off":              func(b []byte) []byte { return b[:50] },
		"cut off in its types": func(b []byte) []byte { return b[:VirtioHeader+EthernetHeader] },
		"nothing to carry":     func(b []byte) []byte { return b[:VirtioHeader+66] },
		"not IP":               func(b []byte) []byte { b[VirtioHeader+12] = 0x99; return b },
		"transport before IP":  func(b []byte) []byte { binary.NativeEndian.PutUint16(b[fieldChecksumStart:], 8); return b },
		"transport far away":   func(b []byte) []byte { binary.NativeEndian.PutUint16(b[fieldChecksumStart:], 65535); return b },
		"a short TCP header":   func(b []byte) []byte { b[VirtioHeader+EthernetHeader+20+12] = 0x10; return b },
	} {
		var c Cutter
		if err := c.Cut(spoil(append([]byte(nil), good...))); !errors.Is(err, ErrCannotCut) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCut(f *testing.F) {
	for _, make := range offload.Examples {
		f.Add(make(f))
	}
	for _, tunnels := range []map[string]offload.Tunnel{offload.Tunnels, offload.SummedTunnels} {
		for _, u := range tunnels {
			f.Add(u.InTunnel(f, offload.Many(f, offload.TCP6, 1000, offload.Numbered(5000)), offload.TCP6))
		}
	}
	for _, b := range offload.Spoiled(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < VirtioHeader+EthernetHeader {
			return
		}
		before := append([]byte(nil), b...)
		Tunnelled(b)
		var c Cutter
		if err := c.Cut(b); err == nil && (c.Len() == 0 || c.Len() > PiecesMost) {
			t.Errorf("%d pieces", c.Len())
		}
		if !bytes.Equal(b, before) {
			t.Error("the frame was changed")
		}
	})
}
