package gate

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/e2e/offload"
)

// TestAGuestWithoutOffloadsGetsPieces: the kernel completes their checksums, and each
// is known to be taken or not.
func TestAGuestWithoutOffloadsGetsPieces(t *testing.T) {
	for name, make := range offload.Examples {
		for offloads, flags := range map[string]int{"none": 0, "checksums": unix.TUN_F_CSUM} {
			t.Run(name+", offloads: "+offloads, func(t *testing.T) {
				w := newRealWire(t, 1, Options{})
				if err := unix.IoctlSetInt(w.qemus[0].FD, unix.TUNSETOFFLOAD, flags); err != nil {
					t.Fatal(err)
				}
				w.StartLog(LogAsync, 1<<30)
				w.OpenInput()
				whole := make(t)
				if err := w.network[0].send(whole); err != nil {
					t.Fatal(err)
				}
				w.delivered(1)
				w.send(0, 2, 2)
				w.delivered(2)
				pieces := [][]byte{w.qemus[0].Read()}
				if c := w.cut(); c.Tails[0] != 2 {
					t.Errorf("after the first piece: %+v", c)
				}
				pieces = append(pieces, w.qemus[0].ReadAll()...)
				for _, f := range pieces {
					if f[offload.Flags]&offload.NeedsChecksum != 0 {
						offload.Complete(f)
					}
				}
				want := gopacket.NewPacket(whole[vnetHeader:], layers.LayerTypeEthernet, gopacket.Default).TransportLayer().LayerPayload()
				if got := offload.Reassemble(t, pieces[:len(pieces)-1]); !bytes.Equal(got, want) {
					t.Errorf("%d bytes, want %d", len(got), len(want))
				}
				if c := w.cut(); c.Tails[0] != 0 {
					t.Errorf("after all: %+v", c)
				}
			})
		}
	}
}
