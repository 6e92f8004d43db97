package gate

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/e2e/offload"
)

// TestWhatCannotBeCarriedIsTold: once in the log, and counted.
func TestWhatCannotBeCarriedIsTold(t *testing.T) {
	for name, give := range map[string]func(w *realWire, f []byte){
		"IP fragments yet to be made, from the guest": func(w *realWire, f []byte) {
			const gsoFragments = 3
			f = offload.Many(w.t, offload.UDP, 1200, offload.Numbered(5003))
			f[offload.Kind] = gsoFragments
			w.qemus[0].Write(f)
		},
		"a tunnel that cannot be cut, from the guest": func(w *realWire, f []byte) { w.leaveLocked(f) },
		"a tunnel that cannot be cut, to the guest":   func(w *realWire, f []byte) { w.arriveLocked(f) },
	} {
		t.Run(name, func(t *testing.T) {
			var told bytes.Buffer
			w := newRealWire(t, 1, Options{Log: hclog.New(&hclog.LoggerOptions{Output: &told, Level: hclog.Warn})})
			w.OpenInput()
			w.Pass()
			for range 3 {
				give(w, offload.Spoiled(t)["no IP inside"])
			}
			netns.Eventually(t, "three are counted", func() bool { return w.Stats().Uncarried == 3 })
			w.send(0, 1, 1) // and others pass
			w.delivered(1)
			w.Close()
			if n := strings.Count(told.String(), "a frame cannot be carried between"); n != 1 {
				t.Errorf("told %d times: %s", n, told.String())
			}
		})
	}
}

func (w *realWire) leaveLocked(f []byte) {
	w.out.Lock()
	defer w.out.Unlock()
	w.leave(w.ports[0], f)
}

func (w *realWire) arriveLocked(f []byte) {
	w.in.Lock()
	defer w.in.Unlock()
	w.arrive(w.ports[0], f)
}

// TestSCTPSums: who gets the frame would take the sum for another kind.
func TestSCTPSums(t *testing.T) {
	f := append(make([]byte, vnetHeader), peerMAC[:]...)
	f = append(append(f, guestMAC[:]...), 0x08, 0x00)
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolSCTP, SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)}
	packet, err := serialize(ip, gopacket.Payload(append([]byte{0x13, 0x88, 0x13, 0x89, 0, 0, 0, 1, 0xee, 0xee, 0xee, 0xee}, offload.Numbered(100)...)))
	must(t, err)
	f = append(f, packet...)
	f[offload.Flags] = offload.NeedsChecksum
	binary.NativeEndian.PutUint16(f[offload.ChecksumStart:], ethernetHead+20)
	binary.NativeEndian.PutUint16(f[offload.ChecksumOffset:], 8)
	want := append([]byte(nil), f...)
	clear(want[:vnetHeader])
	sctp := want[vnetHeader+ethernetHead+20:]
	clear(sctp[8:12])
	binary.LittleEndian.PutUint32(sctp[8:], crc32.Checksum(sctp, crc32.MakeTable(crc32.Castagnoli)))
	w := newWire(t, Options{})
	w.OpenInput()
	w.Pass()
	for _, way := range [][2]*end{{w.network, w.guest}, {w.guest, w.network}} {
		must(t, way[0].send(f))
		if got := way[1].next(5 * time.Second); !bytes.Equal(got, want) {
			t.Errorf("got  % x\nwant % x", got, want)
		}
	}
}
