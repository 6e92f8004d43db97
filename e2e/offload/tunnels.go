package offload

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Tunnel is headers around a frame of many segments: what follows the addresses of the
// outer Ethernet header, with the type, of a frame with n bytes inside, of a kind.
type Tunnel struct {
	bridged bool // the frame's Ethernet header is inside
	headers func(t testing.TB, n int, kind byte) []byte
}

func innerType(kind byte) layers.EthernetType {
	if kind&^ECN == TCP6 {
		return layers.EthernetTypeIPv6
	}
	return layers.EthernetTypeIPv4
}

func inIPv4(protocol layers.IPProtocol, more ...func(kind byte) gopacket.SerializableLayer) func(testing.TB, int, byte) []byte {
	return around(layers.EthernetTypeIPv4, protocol, more)
}

func inIPv6(protocol layers.IPProtocol, more ...func(kind byte) gopacket.SerializableLayer) func(testing.TB, int, byte) []byte {
	return around(layers.EthernetTypeIPv6, protocol, more)
}

// around makes headers whose lengths are right for n bytes inside. protocol 0 stands
// for IP in IP.
func around(network layers.EthernetType, protocol layers.IPProtocol, more []func(byte) gopacket.SerializableLayer) func(testing.TB, int, byte) []byte {
	return func(t testing.TB, n int, kind byte) []byte {
		t.Helper()
		protocol := protocol
		if protocol == 0 {
			protocol = layers.IPProtocolIPv4
			if innerType(kind) == layers.EthernetTypeIPv6 {
				protocol = layers.IPProtocolIPv6
			}
		}
		parts := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: network}}
		var ip gopacket.NetworkLayer
		if network == layers.EthernetTypeIPv6 {
			six := &layers.IPv6{Version: 6, NextHeader: protocol, HopLimit: 64, SrcIP: net.ParseIP("fd00::a"), DstIP: net.ParseIP("fd00::b")}
			ip, parts = six, append(parts, six)
		} else {
			four := &layers.IPv4{Version: 4, Id: 0xfff0, TTL: 64, Protocol: protocol, SrcIP: net.IPv4(192, 0, 2, 1), DstIP: net.IPv4(192, 0, 2, 2)}
			ip, parts = four, append(parts, four)
		}
		for _, m := range more {
			l := m(kind)
			if udp, ok := l.(*layers.UDP); ok {
				udp.SetNetworkLayerForChecksum(ip)
			}
			parts = append(parts, l)
		}
		b, err := serialize(append(parts, gopacket.Payload(make([]byte, n)))...)
		if err != nil {
			t.Fatal(err)
		}
		b = b[12 : len(b)-n]
		if protocol == layers.IPProtocolUDP && !withOuterSum(more, kind) {
			end := 2 + 20
			if network == layers.EthernetTypeIPv6 {
				end = 2 + 40
			}
			binary.BigEndian.PutUint16(b[end+6:], 0)
		}
		return b
	}
}

// withOuterSum: tests tell by the source port that the sum of a UDP header is to be kept.
func withOuterSum(more []func(byte) gopacket.SerializableLayer, kind byte) bool {
	return more[0](kind).(*layers.UDP).SrcPort == portWithSum
}

const portWithSum = 7777

func udpTo(from, to layers.UDPPort) func(byte) gopacket.SerializableLayer {
	return func(byte) gopacket.SerializableLayer { return &layers.UDP{SrcPort: from, DstPort: to} }
}

func raw(b ...byte) func(byte) gopacket.SerializableLayer {
	return func(byte) gopacket.SerializableLayer { return gopacket.Payload(b) }
}

// gre has its checksum where the flags say so, to be filled in.
func gre(flags byte, bridged bool) func(byte) gopacket.SerializableLayer {
	return func(kind byte) gopacket.SerializableLayer {
		inside := uint16(innerType(kind))
		if bridged {
			inside = 0x6558
		}
		b := binary.BigEndian.AppendUint16([]byte{flags, 0}, inside)
		if flags&0x80 != 0 {
			b = append(b, 0, 0, 0, 0)
		}
		if flags&0x20 != 0 {
			b = append(b, 1, 2, 3, 4)
		}
		return gopacket.Payload(b)
	}
}

var (
	vxlan  = raw(8, 0, 0, 0, 0, 0, 7, 0)
	geneve = raw(1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 0) // with an option
)

// Tunnels have no checksums of their own; the kernel can be had to make them.
var Tunnels = map[string]Tunnel{
	"VXLAN":           {true, inIPv4(layers.IPProtocolUDP, udpTo(5, 4789), vxlan)},
	"VXLAN over IPv6": {true, inIPv6(layers.IPProtocolUDP, udpTo(5, 4789), vxlan)},
	"GENEVE":          {true, inIPv4(layers.IPProtocolUDP, udpTo(5, 6081), geneve)},
	"IP over UDP":     {false, inIPv4(layers.IPProtocolUDP, udpTo(5, 5555))},
	"GRE":             {false, inIPv4(layers.IPProtocolGRE, gre(0, false))},
	"GRE with a key":  {false, inIPv4(layers.IPProtocolGRE, gre(0x20, false))},
	"GRE over IPv6":   {false, inIPv6(layers.IPProtocolGRE, gre(0, false))},
	"bridged GRE":     {true, inIPv4(layers.IPProtocolGRE, gre(0, true))},
	"IP over IPv4":    {false, inIPv4(0)},
	"IP over IPv6":    {false, inIPv6(0)},
}

// Insides are what a tunnel is tried with: kinds, and the size of a segment.
var Insides = map[string]struct {
	Kind byte
	Size int
}{"TCP over IPv4": {TCP4, 1360}, "TCP over IPv6": {TCP6, 1301}, "TCP with ECN": {TCP4 | ECN, 700}, "UDP": {UDP, 1201}}

// Inserted is what a tunnel puts behind the addresses of a frame's Ethernet header.
func (u Tunnel) Inserted(t testing.TB, inside []byte, kind byte) []byte {
	n := len(inside) - VirtioHeader
	if !u.bridged {
		return u.headers(t, n-ethernetHeader, kind)
	}
	return append(u.headers(t, n, kind), inside[VirtioHeader:VirtioHeader+ethernetHeader]...)
}

// SummedTunnels have checksums of their own, or are such as the kernel of a test may
// not know.
var SummedTunnels = map[string]Tunnel{
	"VXLAN with a sum":           {bridged: true, headers: inIPv4(layers.IPProtocolUDP, udpTo(portWithSum, 4789), vxlan)},
	"VXLAN with a sum over IPv6": {bridged: true, headers: inIPv6(layers.IPProtocolUDP, udpTo(portWithSum, 4789), vxlan)},
	"GENEVE with a sum":          {bridged: true, headers: inIPv4(layers.IPProtocolUDP, udpTo(portWithSum, 6081), geneve)},
	"GRE with a sum":             {headers: inIPv4(layers.IPProtocolGRE, gre(0x80, false))},
	"GRE with a sum and a key":   {headers: inIPv6(layers.IPProtocolGRE, gre(0xa0, false))},
	"bridged GRE with a sum":     {bridged: true, headers: inIPv4(layers.IPProtocolGRE, gre(0x80, true))},
	"MPLS":                       {headers: func(testing.TB, int, byte) []byte { return []byte{0x88, 0x47, 0, 1, 0x01, 64} }},
}

// InTunnel is a frame of many segments in a tunnel, as it is received.
func (u Tunnel) InTunnel(t testing.TB, whole []byte, kind byte) []byte {
	t.Helper()
	inserted := u.Inserted(t, whole, kind)
	f := append([]byte(nil), whole[:VirtioHeader+12]...)
	grown := len(inserted) - 2
	f = append(append(f, inserted...), whole[VirtioHeader+ethernetHeader:]...)
	native := binary.NativeEndian
	native.PutUint16(f[ChecksumStart:], native.Uint16(f[ChecksumStart:])+uint16(grown))
	native.PutUint16(f[HeaderLength:], native.Uint16(f[HeaderLength:])+uint16(grown))
	return f
}

// Spoiled are frames in tunnels that cannot be cut.
func Spoiled(t testing.TB) map[string][]byte {
	gre := SummedTunnels["GRE with a sum"].InTunnel(t, Partial(Many(t, TCP4, 1000, Numbered(5000))), TCP4)
	binary.BigEndian.PutUint16(gre[VirtioHeader+ethernetHeader+20:], 0x1000)
	unknown := Tunnels["VXLAN"].InTunnel(t, Partial(Many(t, TCP4, 1000, Numbered(5000))), TCP4)
	unknown[VirtioHeader+ethernetHeader+20+8+8+ethernetHeader] = 0x75
	odd := Tunnels["VXLAN"].InTunnel(t, Partial(Many(t, TCP4, 1000, Numbered(5000))), TCP4)
	at := VirtioHeader + ethernetHeader + 20 + 8
	odd = append(append(append([]byte(nil), odd[:at]...), 0), odd[at:]...)
	binary.NativeEndian.PutUint16(odd[ChecksumStart:], binary.NativeEndian.Uint16(odd[ChecksumStart:])+1)
	return map[string][]byte{"numbered GRE": gre, "no IP inside": unknown, "a tunnel header of odd length": odd}
}
