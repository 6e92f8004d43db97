package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stillpoint-ft/stillpoint/e2e/offload"
)

// TestPiecesOfFramesInTunnels: each is one that a receiver takes, and together they
// carry what the frame did.
func TestPiecesOfFramesInTunnels(t *testing.T) {
	for _, tunnels := range []map[string]offload.Tunnel{offload.Tunnels, offload.SummedTunnels} {
		for name, u := range tunnels {
			for what, inside := range offload.Insides {
				t.Run(name+", "+what, func(t *testing.T) {
					payload := offload.Numbered(30011)
					f := u.InTunnel(t, offload.Partial(offload.Many(t, inside.Kind, inside.Size, payload)), inside.Kind)
					if !Tunnelled(f) {
						t.Fatal("it is not known to be in a tunnel")
					}
					var c Cutter
					if err := c.Cut(f); err != nil {
						t.Fatal(err)
					}
					var got []byte
					for i := range c.Len() {
						got = append(got, offload.Carried(t, c.Piece(i))...)
					}
					if !bytes.Equal(got, payload) {
						t.Errorf("they carry %d bytes, want %d", len(got), len(payload))
					}
				})
			}
		}
	}
}

// TestFramesThatAreNotInTunnels pass whole: the kernel knows how to cut them.
func TestFramesThatAreNotInTunnels(t *testing.T) {
	for name, make := range offload.Examples {
		if Tunnelled(make(t)) {
			t.Errorf("%s: taken for a frame in a tunnel", name)
		}
	}
	extended := offload.Many(t, offload.TCP6, 1000, offload.Numbered(5000))
	at := VirtioHeader + EthernetHeader
	options := append([]byte{protocolTCP, 0, 1, 4, 0, 0, 0, 0}, extended[at+40:]...)
	extended = append(extended[:at+40:at+40], options...)
	extended[at+6] = 60
	binary.NativeEndian.PutUint16(extended[fieldChecksumStart:], EthernetHeader+48)
	if Tunnelled(extended) {
		t.Error("with an extension header: taken for a frame in a tunnel")
	}
	var c Cutter
	if err := c.Cut(extended); err != nil || c.Len() != 5 {
		t.Errorf("with an extension header: %d pieces, %v", c.Len(), err)
	}
}

func TestFramesInTunnelsThatCannotBeCut(t *testing.T) {
	for name, f := range offload.Spoiled(t) {
		var c Cutter
		if err := c.Cut(f); !errors.Is(err, ErrCannotCut) || !Tunnelled(f) {
			t.Errorf("%s: %v", name, err)
		}
	}
	deep := offload.Tunnels["IP over IPv4"]
	f := offload.Partial(offload.Many(t, offload.TCP4, 1000, offload.Numbered(5000)))
	var c Cutter
	for depth := 1; ; depth++ {
		if f = deep.InTunnel(t, f, offload.TCP4); c.Cut(f) == nil {
			continue
		}
		if depth < 3 || depth > tunnelsMost {
			t.Errorf("%d tunnels are too many", depth)
		}
		break
	}
}
