// Package offload makes frames that stand for many segments, in tunnels and not, and
// checks what becomes of them. It shares nothing with the code that it is to test.
package offload

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// VirtioHeader is before each frame: struct virtio_net_hdr, linux/virtio_net.h.
const VirtioHeader = 10

// Where its fields are, in the host's byte order.
const (
	Flags, Kind, HeaderLength, Size, ChecksumStart, ChecksumOffset = 0, 1, 2, 4, 6, 8

	NeedsChecksum byte = 1 // of Flags
)

// Kinds of frames that stand for many.
const TCP4, TCP6, UDP, ECN byte = 1, 4, 5, 0x80

const ethernetHeader, vlanTag = 14, 4

var source, destination = [6]byte{0x52, 0x54, 0, 9, 9, 9}, [6]byte{0x52, 0x54, 0, 1, 2, 3}

// Many is a frame that stands for many segments: kind is its virtio header's.
func Many(t testing.TB, kind byte, size int, payload []byte, tags ...layers.EthernetType) []byte {
	t.Helper()
	six := kind&^ECN == TCP6
	network := layers.EthernetTypeIPv4
	if six {
		network = layers.EthernetTypeIPv6
	}
	types := append(append([]layers.EthernetType{}, tags...), network)
	parts := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: source[:], DstMAC: destination[:], EthernetType: types[0]}}
	for i := range tags {
		parts = append(parts, &layers.Dot1Q{VLANIdentifier: uint16(i + 7), Type: types[i+1]})
	}
	protocol := layers.IPProtocolTCP
	if kind == UDP {
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
	parts = append(parts, transport(kind, ip))
	bytes, err := serialize(append(parts, gopacket.Payload(payload))...)
	if err != nil {
		t.Fatal(err)
	}
	f := append(make([]byte, VirtioHeader), bytes...)
	native := binary.NativeEndian
	start := ethernetHeader + len(tags)*vlanTag + 20
	if six {
		start += 20
	}
	offset, head := 16, 32
	if kind == UDP {
		offset, head = 6, 8
	}
	f[Flags], f[Kind] = NeedsChecksum, kind
	native.PutUint16(f[HeaderLength:], uint16(start+head))
	native.PutUint16(f[Size:], uint16(size))
	native.PutUint16(f[ChecksumStart:], uint16(start))
	native.PutUint16(f[ChecksumOffset:], uint16(offset))
	return f
}

func transport(kind byte, ip gopacket.NetworkLayer) gopacket.SerializableLayer {
	if kind == UDP {
		udp := &layers.UDP{SrcPort: 5000, DstPort: 6000}
		udp.SetNetworkLayerForChecksum(ip)
		return udp
	}
	tcp := &layers.TCP{SrcPort: 5000, DstPort: 6000, Seq: 0xfffffff0, ACK: true, PSH: true, FIN: true, CWR: true, Window: 1000,
		Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}}
	tcp.SetNetworkLayerForChecksum(ip)
	return tcp
}

// Numbered is a payload of which every byte can be told from its neighbours.
func Numbered(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

// Examples are frames of many segments of each kind, in no tunnel.
var Examples = map[string]func(t testing.TB) []byte{
	"TCP over IPv4": func(t testing.TB) []byte { return Many(t, TCP4, 1448, Numbered(10000)) },
	"TCP over IPv6": func(t testing.TB) []byte { return Many(t, TCP6, 1428, Numbered(20001)) },
	"TCP with ECN":  func(t testing.TB) []byte { return Many(t, TCP4|ECN, 700, Numbered(1400)) },
	"UDP":           func(t testing.TB) []byte { return Many(t, UDP, 1200, Numbered(5003)) },
	"TCP with tags": func(t testing.TB) []byte {
		return Many(t, TCP6, 1000, Numbered(7000), layers.EthernetTypeQinQ, layers.EthernetTypeDot1Q)
	},
}

// Partial leaves of a frame's checksum what whoever is to complete it expects: the
// part of the pseudo header.
func Partial(f []byte) []byte {
	native := binary.NativeEndian
	start := VirtioHeader + int(native.Uint16(f[ChecksumStart:]))
	protocol, addresses := uint32(6), f[start-8:start]
	if f[Kind] == UDP {
		protocol = 17
	}
	if f[Kind]&^ECN == TCP6 {
		addresses = f[start-32 : start]
	}
	binary.BigEndian.PutUint16(f[start+int(native.Uint16(f[ChecksumOffset:])):], sum(addresses, protocol+uint32(len(f)-start)))
	return f
}

func serialize(parts ...gopacket.SerializableLayer) ([]byte, error) {
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...)
	return b.Bytes(), err
}

// sum of RFC 1071, not complemented, and taken in the plainest way.
func sum(b []byte, start uint32) uint16 {
	total := start
	for i, v := range b {
		total += uint32(v) << (8 * (1 - i%2))
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
