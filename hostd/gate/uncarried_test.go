package gate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// TestFramesThatAreNotInTunnels pass whole: the kernel knows how to cut them.
func TestFramesThatAreNotInTunnels(t *testing.T) {
	for name, make := range manies {
		if tunnelled(make(t)) {
			t.Errorf("%s: taken for a frame in a tunnel", name)
		}
	}
	extended := many(t, gsoTCP6, 1000, numbered(5000))
	at := vnetHeader + ethernetHead
	options := append([]byte{protocolTCP, 0, 1, 4, 0, 0, 0, 0}, extended[at+40:]...)
	extended = append(extended[:at+40:at+40], options...)
	extended[at+6] = 60
	binary.NativeEndian.PutUint16(extended[vnetChecksumStart:], ethernetHead+48)
	if tunnelled(extended) {
		t.Error("with an extension header: taken for a frame in a tunnel")
	}
	var c cutter
	if err := c.cut(extended); err != nil || c.pieces.Len() != 5 {
		t.Errorf("with an extension header: %d pieces, %v", c.pieces.Len(), err)
	}
}

// spoiled are frames in tunnels that cannot be cut.
func spoiled(t testing.TB) map[string][]byte {
	gre := summedTunnels["GRE with a sum"].inTunnel(t, partial(many(t, gsoTCP4, 1000, numbered(5000))), gsoTCP4)
	binary.BigEndian.PutUint16(gre[vnetHeader+ethernetHead+20:], greOrder)
	unknown := plainTunnels["VXLAN"].inTunnel(t, partial(many(t, gsoTCP4, 1000, numbered(5000))), gsoTCP4)
	unknown[vnetHeader+ethernetHead+20+8+8+ethernetHead] = 0x75
	odd := plainTunnels["VXLAN"].inTunnel(t, partial(many(t, gsoTCP4, 1000, numbered(5000))), gsoTCP4)
	at := vnetHeader + ethernetHead + 20 + 8
	odd = append(append(append([]byte(nil), odd[:at]...), 0), odd[at:]...)
	binary.NativeEndian.PutUint16(odd[vnetChecksumStart:], binary.NativeEndian.Uint16(odd[vnetChecksumStart:])+1)
	return map[string][]byte{"numbered GRE": gre, "no IP inside": unknown, "a tunnel header of odd length": odd}
}

func TestFramesInTunnelsThatCannotBeCut(t *testing.T) {
	for name, f := range spoiled(t) {
		var c cutter
		if err := c.cut(f); !errors.Is(err, errCannotCut) || !tunnelled(f) {
			t.Errorf("%s: %v", name, err)
		}
	}
	deep := plainTunnels["IP over IPv4"]
	f := partial(many(t, gsoTCP4, 1000, numbered(5000)))
	var c cutter
	for depth := 1; ; depth++ {
		if f = deep.inTunnel(t, f, gsoTCP4); c.cut(f) == nil {
			continue
		}
		if depth < 3 || depth > tunnelsMost {
			t.Errorf("%d tunnels are too many", depth)
		}
		break
	}
}

// TestWhatCannotBeCarriedIsTold: once in the log, and counted.
func TestWhatCannotBeCarriedIsTold(t *testing.T) {
	for name, give := range map[string]func(w *realWire, f []byte){
		"IP fragments yet to be made, from the guest": func(w *realWire, f []byte) {
			const gsoFragments = 3
			f = many(w.t, gsoUDP, 1200, numbered(5003))
			f[vnetGSO] = gsoFragments
			w.qemus[0].write(f)
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
				give(w, spoiled(t)["no IP inside"])
			}
			eventually(t, "three are counted", func() bool { return w.Stats().Uncarried == 3 })
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

func (q *qemu) write(f []byte) {
	q.t.Helper()
	if _, err := unix.Write(q.fd, f); err != nil {
		q.t.Fatal(err)
	}
}

// TestFramesTooLong: what is longer than any buffer is not passed on cut off.
func TestFramesTooLong(t *testing.T) {
	w := newWire(t, Options{})
	s := endpoint(t, "network")
	defer s.Close()
	must(t, w.guest.send(frame(guestMAC, 1)))
	w.Pass()
	must(t, w.guest.send(frame(guestMAC, 2)))
	b := make([]byte, 40)
	eventually(t, "a frame that does not fit is refused", func() bool {
		_, again, err := s.Receive(s.fd(), b)
		return !again && errors.Is(err, ErrUncarried)
	})
}

func (s *socket) fd() (n int) {
	s.raw.Control(func(fd uintptr) { n = int(fd) })
	return n
}

// TestSCTPSums: who gets the frame would take the sum for another kind.
func TestSCTPSums(t *testing.T) {
	f := append(make([]byte, vnetHeader), peerMAC[:]...)
	f = append(append(f, guestMAC[:]...), 0x08, 0x00)
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolSCTP, SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)}
	packet, err := serialize(ip, gopacket.Payload(append([]byte{0x13, 0x88, 0x13, 0x89, 0, 0, 0, 1, 0xee, 0xee, 0xee, 0xee}, numbered(100)...)))
	must(t, err)
	f = append(f, packet...)
	f[vnetFlags] = needsChecksum
	binary.NativeEndian.PutUint16(f[vnetChecksumStart:], ethernetHead+20)
	binary.NativeEndian.PutUint16(f[vnetChecksumOffset:], 8)
	want := append([]byte(nil), f...)
	clear(want[:vnetHeader])
	sctp := want[vnetHeader+ethernetHead+20:]
	clear(sctp[8:12])
	binary.LittleEndian.PutUint32(sctp[8:], crc32.Checksum(sctp, crc32.MakeTable(crc32.Castagnoli)))
	w := newWire(t, Options{})
	w.OpenInput()
	w.Pass()
	for _, way := range [][2]*socket{{w.network, w.guest}, {w.guest, w.network}} {
		must(t, way[0].send(f))
		if got := readAny(t, way[1]); !bytes.Equal(got, want) {
			t.Errorf("got  % x\nwant % x", got, want)
		}
	}
}
