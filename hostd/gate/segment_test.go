package gate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// many is a frame that stands for many segments: kind is its virtio header's.
func many(t testing.TB, kind byte, size int, payload []byte, tags ...layers.EthernetType) []byte {
	t.Helper()
	six := kind&^gsoECN == gsoTCP6
	network := layers.EthernetTypeIPv4
	if six {
		network = layers.EthernetTypeIPv6
	}
	types := append(append([]layers.EthernetType{}, tags...), network)
	parts := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: peerMAC[:], DstMAC: guestMAC[:], EthernetType: types[0]}}
	for i := range tags {
		parts = append(parts, &layers.Dot1Q{VLANIdentifier: uint16(i + 7), Type: types[i+1]})
	}
	protocol := layers.IPProtocolTCP
	if kind == gsoUDP {
		protocol = layers.IPProtocolUDP
	}
	var ip gopacket.NetworkLayer
	if six {
		six := &layers.IPv6{Version: 6, NextHeader: protocol, HopLimit: 64, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
		ip, parts = six, append(parts, six)
	} else {
		four := &layers.IPv4{Version: 4, Id: 0xfffe, TTL: 64, Protocol: protocol, Flags: layers.IPv4DontFragment, SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)}
		ip, parts = four, append(parts, four)
	}
	if kind == gsoUDP {
		udp := &layers.UDP{SrcPort: 5000, DstPort: 6000}
		udp.SetNetworkLayerForChecksum(ip)
		parts = append(parts, udp)
	} else {
		tcp := &layers.TCP{SrcPort: 5000, DstPort: 6000, Seq: 0xfffffff0, ACK: true, PSH: true, FIN: true, CWR: true, Window: 1000,
			Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}}
		tcp.SetNetworkLayerForChecksum(ip)
		parts = append(parts, tcp)
	}
	bytes, err := serialize(append(parts, gopacket.Payload(payload))...)
	if err != nil {
		t.Fatal(err)
	}
	f := append(make([]byte, vnetHeader), bytes...)
	native := binary.NativeEndian
	start := ethernetHead + len(tags)*vlanTag + 20
	if six {
		start += 20
	}
	offset, head := 16, 32
	if kind == gsoUDP {
		offset, head = 6, 8
	}
	f[vnetFlags], f[vnetGSO] = needsChecksum, kind
	native.PutUint16(f[vnetHeaderLen:], uint16(start+head))
	native.PutUint16(f[vnetSize:], uint16(size))
	native.PutUint16(f[vnetChecksumStart:], uint16(start))
	native.PutUint16(f[vnetChecksumOffset:], uint16(offset))
	return f
}

func numbered(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

// complete does what the kernel does with a checksum that is to be completed.
func complete(f []byte) {
	native := binary.NativeEndian
	start := vnetHeader + int(native.Uint16(f[vnetChecksumStart:]))
	at := start + int(native.Uint16(f[vnetChecksumOffset:]))
	rest := append([]byte(nil), f[start:]...)
	if len(rest)%2 == 1 {
		rest = append(rest, 0)
	}
	binary.BigEndian.PutUint16(f[at:], ^sum16(rest, 0))
}

// checkSums of the IP and the transport header.
func checkSums(t *testing.T, packet gopacket.Packet) {
	t.Helper()
	addresses, protocol := packet.NetworkLayer().LayerContents()[8:], uint32(6)
	if ip, ok := packet.NetworkLayer().(*layers.IPv4); ok {
		addresses = ip.Contents[12:20]
		if got := sum16(ip.Contents, 0); got != 0xffff {
			t.Errorf("the sum of an IP header is %#x", got)
		}
	}
	if packet.Layer(layers.LayerTypeUDP) != nil {
		protocol = 17
	}
	segment := append(append([]byte(nil), packet.TransportLayer().LayerContents()...), packet.TransportLayer().LayerPayload()...)
	length := uint32(len(segment))
	if len(segment)%2 == 1 {
		segment = append(segment, 0)
	}
	if got := sum16(append(append([]byte(nil), addresses...), segment...), protocol+length); got != 0xffff {
		t.Errorf("the sum of a segment is %#x", got)
	}
}

// reassemble checks the headers of each piece as a receiver does, and joins what they
// carry.
func reassemble(t *testing.T, pieces [][]byte) (payload []byte) {
	t.Helper()
	for i, f := range pieces {
		packet := gopacket.NewPacket(f[vnetHeader:], layers.LayerTypeEthernet, gopacket.Default)
		if e := packet.ErrorLayer(); e != nil {
			t.Fatalf("piece %d: %v", i, e.Error())
		}
		checkSums(t, packet)
		last := i == len(pieces)-1
		if ip, ok := packet.NetworkLayer().(*layers.IPv4); ok && (ip.Id != uint16(0xfffe+i) || int(ip.Length) != len(ip.Contents)+len(ip.Payload)) {
			t.Errorf("piece %d: id %d, length %d", i, ip.Id, ip.Length)
		}
		if tcp, ok := packet.TransportLayer().(*layers.TCP); ok {
			if tcp.FIN != last || tcp.PSH != last || tcp.CWR != (i == 0) || !tcp.ACK || tcp.Seq != 0xfffffff0+uint32(len(payload)) {
				t.Errorf("piece %d of %d: %+v", i, len(pieces), tcp)
			}
		}
		payload = append(payload, packet.TransportLayer().LayerPayload()...)
	}
	return payload
}

var manies = map[string]func(t testing.TB) []byte{
	"TCP over IPv4": func(t testing.TB) []byte { return many(t, gsoTCP4, 1448, numbered(10000)) },
	"TCP over IPv6": func(t testing.TB) []byte { return many(t, gsoTCP6, 1428, numbered(20001)) },
	"TCP with ECN":  func(t testing.TB) []byte { return many(t, gsoTCP4|gsoECN, 700, numbered(1400)) },
	"UDP":           func(t testing.TB) []byte { return many(t, gsoUDP, 1200, numbered(5003)) },
	"TCP with tags": func(t testing.TB) []byte {
		return many(t, gsoTCP6, 1000, numbered(7000), layers.EthernetTypeQinQ, layers.EthernetTypeDot1Q)
	},
}

func TestPiecesOfAFrame(t *testing.T) {
	for name, make := range manies {
		t.Run(name, func(t *testing.T) {
			whole := make(t)
			original := append([]byte(nil), whole...)
			var c cutter
			for range 2 {
				if err := c.cut(whole); err != nil {
					t.Fatal(err)
				}
			}
			var pieces [][]byte
			for i := range c.pieces.Len() {
				f := c.pieces.Data(i)
				complete(f)
				pieces = append(pieces, f)
			}
			want := gopacket.NewPacket(original[vnetHeader:], layers.LayerTypeEthernet, gopacket.Default).TransportLayer().LayerPayload()
			if got := reassemble(t, pieces); !bytes.Equal(got, want) || !bytes.Equal(whole, original) {
				t.Errorf("%d bytes, want %d", len(got), len(want))
			}
		})
	}
}

// TestAGuestWithoutOffloadsGetsPieces: the kernel completes their checksums, and each
// is known to be taken or not.
func TestAGuestWithoutOffloadsGetsPieces(t *testing.T) {
	for name, make := range manies {
		for offloads, flags := range map[string]int{"none": 0, "checksums": unix.TUN_F_CSUM} {
			t.Run(name+", offloads: "+offloads, func(t *testing.T) {
				w := newRealWire(t, 1, Options{})
				if err := unix.IoctlSetInt(w.qemus[0].fd, unix.TUNSETOFFLOAD, flags); err != nil {
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
				pieces := [][]byte{w.qemus[0].read()}
				if c := w.cut(); c.Tails[0] != 2 {
					t.Errorf("after the first piece: %+v", c)
				}
				pieces = append(pieces, w.qemus[0].readAll()...)
				for _, f := range pieces {
					if f[vnetFlags]&needsChecksum != 0 {
						complete(f)
					}
				}
				want := gopacket.NewPacket(whole[vnetHeader:], layers.LayerTypeEthernet, gopacket.Default).TransportLayer().LayerPayload()
				if got := reassemble(t, pieces[:len(pieces)-1]); !bytes.Equal(got, want) {
					t.Errorf("%d bytes, want %d", len(got), len(want))
				}
				if c := w.cut(); c.Tails[0] != 0 {
					t.Errorf("after all: %+v", c)
				}
			})
		}
	}
}

func TestFramesThatCannotBeCut(t *testing.T) {
	good := many(t, gsoTCP4, 1448, numbered(10000))
	for name, spoil := range map[string]func(b []byte) []byte{
		"of no known kind":     func(b []byte) []byte { b[vnetGSO] = 3; return b },
		"no checksum":          func(b []byte) []byte { b[vnetFlags] = 0; return b },
		"no size":              func(b []byte) []byte { b[vnetSize], b[vnetSize+1] = 0, 0; return b },
		"too many":             func(b []byte) []byte { binary.NativeEndian.PutUint16(b[vnetSize:], 1); return b },
		"cut off":              func(b []byte) []byte { return b[:50] },
		"cut off in its types": func(b []byte) []byte { return b[:vnetHeader+ethernetHead] },
		"nothing to carry":     func(b []byte) []byte { return b[:vnetHeader+66] },
		"not IP":               func(b []byte) []byte { b[vnetHeader+12] = 0x99; return b },
		"transport before IP":  func(b []byte) []byte { binary.NativeEndian.PutUint16(b[vnetChecksumStart:], 8); return b },
		"transport far away":   func(b []byte) []byte { binary.NativeEndian.PutUint16(b[vnetChecksumStart:], 65535); return b },
		"a short TCP header":   func(b []byte) []byte { b[vnetHeader+ethernetHead+20+12] = 0x10; return b },
	} {
		var c cutter
		if err := c.cut(spoil(append([]byte(nil), good...))); !errors.Is(err, errCannotCut) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCut(f *testing.F) {
	for _, make := range manies {
		f.Add(make(f))
	}
	for _, tunnels := range []map[string]tunnel{plainTunnels, summedTunnels} {
		for _, u := range tunnels {
			f.Add(u.inTunnel(f, many(f, gsoTCP6, 1000, numbered(5000)), gsoTCP6))
		}
	}
	for _, b := range spoiled(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < vnetHeader+ethernetHead {
			return
		}
		before := append([]byte(nil), b...)
		tunnelled(b)
		var c cutter
		if err := c.cut(b); err == nil && (c.pieces.Len() == 0 || c.pieces.Len() > piecesMost) {
			t.Errorf("%d pieces", c.pieces.Len())
		}
		if !bytes.Equal(b, before) {
			t.Error("the frame was changed")
		}
	})
}
