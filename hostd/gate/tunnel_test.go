package gate

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
)

// tunnel is headers around a frame of many segments: what follows the addresses of the
// outer Ethernet header, with the type, of a frame with n bytes inside, of a kind.
type tunnel struct {
	bridged bool // the frame's Ethernet header is inside
	room    uint64
	headers func(t testing.TB, n int, kind byte) []byte
}

func innerType(kind byte) layers.EthernetType {
	if kind&^gsoECN == gsoTCP6 {
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
			inside = typeBridged
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

// plainTunnels have no checksums of their own; the kernel can be had to make them.
var plainTunnels = map[string]tunnel{
	"VXLAN":           {true, roomIPv4 | roomUDP | roomBridged | roomInner(14), inIPv4(layers.IPProtocolUDP, udpTo(5, 4789), vxlan)},
	"VXLAN over IPv6": {true, roomIPv6 | roomUDP | roomBridged | roomInner(14), inIPv6(layers.IPProtocolUDP, udpTo(5, 4789), vxlan)},
	"GENEVE":          {true, roomIPv4 | roomUDP | roomBridged | roomInner(14), inIPv4(layers.IPProtocolUDP, udpTo(5, 6081), geneve)},
	"IP over UDP":     {false, roomIPv4 | roomUDP, inIPv4(layers.IPProtocolUDP, udpTo(5, 5555))},
	"GRE":             {false, roomIPv4 | roomGRE, inIPv4(layers.IPProtocolGRE, gre(0, false))},
	"GRE with a key":  {false, roomIPv4 | roomGRE, inIPv4(layers.IPProtocolGRE, gre(0x20, false))},
	"GRE over IPv6":   {false, roomIPv6 | roomGRE, inIPv6(layers.IPProtocolGRE, gre(0, false))},
	"bridged GRE":     {true, roomIPv4 | roomGRE | roomBridged | roomInner(14), inIPv4(layers.IPProtocolGRE, gre(0, true))},
	"IP over IPv4":    {false, roomIPv4, inIPv4(0)},
	"IP over IPv6":    {false, roomIPv6, inIPv6(0)},
}

var insides = map[string]struct {
	kind byte
	size int
}{"TCP over IPv4": {gsoTCP4, 1360}, "TCP over IPv6": {gsoTCP6, 1301}, "TCP with ECN": {gsoTCP4 | gsoECN, 700}, "UDP": {gsoUDP, 1201}}

// inserted is what a tunnel puts behind the addresses of a frame's Ethernet header.
func (u tunnel) inserted(t testing.TB, inside []byte, kind byte) []byte {
	n := len(inside) - vnetHeader
	if !u.bridged {
		return u.headers(t, n-ethernetHead, kind)
	}
	return append(u.headers(t, n, kind), inside[vnetHeader:vnetHeader+ethernetHead]...)
}

// TestFramesOfManyInTunnels: they reach the other side in the very pieces that the
// kernel makes of them.
func TestFramesOfManyInTunnels(t *testing.T) {
	for name, u := range plainTunnels {
		for what, inside := range insides {
			t.Run(name+", "+what, func(t *testing.T) {
				w := newWire(t, Options{})
				whole := partial(many(t, inside.kind, inside.size, numbered(30011)))
				inserted := u.inserted(t, whole, inside.kind)
				want := kernelPieces(t, whole, inserted, u.room)
				w.OpenInput()
				w.Pass()
				encapsulate(t, "network", inserted, u.room|roomFixedGSO)
				encapsulate(t, "guest", inserted, u.room|roomFixedGSO)
				must(t, w.network.send(whole))
				expectPieces(t, "to the guest", w.guest, want)
				must(t, w.guest.send(whole))
				expectPieces(t, "from the guest", w.network, want)
				if s := w.Stats(); s.Uncarried != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// kernelPieces has the kernel cut a frame.
func kernelPieces(t *testing.T, whole, inserted []byte, room uint64) (pieces [][]byte) {
	t.Helper()
	makeVeth(t, "kernel", "kernelout")
	cutBeforeSending(t, "kernel")
	encapsulate(t, "kernel", inserted, room|roomFixedGSO)
	from, to := endpoint(t, "kernel"), endpoint(t, "kernelout")
	defer from.Close()
	defer to.Close()
	must(t, from.send(whole))
	size := int(binary.NativeEndian.Uint16(whole[vnetSize:]))
	for range (30011 + size - 1) / size {
		f := readAny(t, to)
		if f == nil {
			t.Fatalf("the kernel makes %d pieces", len(pieces))
		}
		pieces = append(pieces, bare(f))
	}
	return pieces
}

// partial leaves of a frame's checksum what whoever is to complete it expects: the
// part of the pseudo header.
func partial(f []byte) []byte {
	native := binary.NativeEndian
	start := vnetHeader + int(native.Uint16(f[vnetChecksumStart:]))
	protocol, addresses := uint32(protocolTCP), f[start-8:start]
	if f[vnetGSO] == gsoUDP {
		protocol = protocolUDP
	}
	if f[vnetGSO]&^gsoECN == gsoTCP6 {
		addresses = f[start-32 : start]
	}
	binary.BigEndian.PutUint16(f[start+int(native.Uint16(f[vnetChecksumOffset:])):], sum16(addresses, protocol+uint32(len(f)-start)))
	return f
}

// bare is a frame with complete sums.
func bare(f []byte) []byte {
	f = append([]byte(nil), f...)
	if f[vnetFlags]&needsChecksum != 0 {
		complete(f)
	}
	return f[vnetHeader:]
}

func expectPieces(t *testing.T, where string, from *socket, want [][]byte) {
	t.Helper()
	for i, w := range want {
		f := readAny(t, from)
		if f == nil {
			t.Fatalf("%s: %d pieces of %d", where, i, len(want))
		}
		if segmented(f) {
			t.Fatalf("%s: a frame of %d bytes that stands for many", where, len(f))
		}
		if got := bare(f); !bytes.Equal(got, w) {
			t.Fatalf("%s: piece %d: %d bytes, want %d\n%s\n%s", where, i, len(got), len(w), gopacket.NewPacket(got, layers.LayerTypeEthernet, gopacket.Default), gopacket.NewPacket(w, layers.LayerTypeEthernet, gopacket.Default))
		}
	}
}

// readAny is the next frame, whatever it is, or nil where none comes.
func readAny(t *testing.T, s *socket) (frame []byte) {
	t.Helper()
	s.file.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, maxFrame)
	err := s.raw.Read(func(fd uintptr) bool {
		n, again, err := s.Receive(int(fd), b)
		if err != nil {
			t.Error(err)
		}
		frame = b[:n]
		return !again
	})
	if err != nil {
		return nil
	}
	return frame
}

// summedTunnels have checksums of their own, or are such as the kernel of a test may
// not know.
var summedTunnels = map[string]tunnel{
	"VXLAN with a sum":           {bridged: true, headers: inIPv4(layers.IPProtocolUDP, udpTo(portWithSum, 4789), vxlan)},
	"VXLAN with a sum over IPv6": {bridged: true, headers: inIPv6(layers.IPProtocolUDP, udpTo(portWithSum, 4789), vxlan)},
	"GENEVE with a sum":          {bridged: true, headers: inIPv4(layers.IPProtocolUDP, udpTo(portWithSum, 6081), geneve)},
	"GRE with a sum":             {headers: inIPv4(layers.IPProtocolGRE, gre(0x80, false))},
	"GRE with a sum and a key":   {headers: inIPv6(layers.IPProtocolGRE, gre(0xa0, false))},
	"bridged GRE with a sum":     {bridged: true, headers: inIPv4(layers.IPProtocolGRE, gre(0x80, true))},
	"MPLS":                       {headers: func(testing.TB, int, byte) []byte { return []byte{0x88, 0x47, 0, 1, 0x01, 64} }},
}

// inTunnel is a frame of many segments in a tunnel, as it is received.
func (u tunnel) inTunnel(t testing.TB, whole []byte, kind byte) []byte {
	t.Helper()
	inserted := u.inserted(t, whole, kind)
	f := append([]byte(nil), whole[:vnetHeader+12]...)
	grown := len(inserted) - 2
	f = append(append(f, inserted...), whole[vnetHeader+ethernetHead:]...)
	native := binary.NativeEndian
	native.PutUint16(f[vnetChecksumStart:], native.Uint16(f[vnetChecksumStart:])+uint16(grown))
	native.PutUint16(f[vnetHeaderLen:], native.Uint16(f[vnetHeaderLen:])+uint16(grown))
	return f
}

// TestPiecesOfFramesInTunnels: each is one that a receiver takes, and together they
// carry what the frame did.
func TestPiecesOfFramesInTunnels(t *testing.T) {
	for _, tunnels := range []map[string]tunnel{plainTunnels, summedTunnels} {
		for name, u := range tunnels {
			for what, inside := range insides {
				t.Run(name+", "+what, func(t *testing.T) {
					payload := numbered(30011)
					f := u.inTunnel(t, partial(many(t, inside.kind, inside.size, payload)), inside.kind)
					if !tunnelled(f) {
						t.Fatal("it is not known to be in a tunnel")
					}
					var c cutter
					must(t, c.cut(f))
					var got []byte
					for i := range c.pieces.Len() {
						got = append(got, carried(t, c.pieces.Data(i))...)
					}
					if !bytes.Equal(got, payload) {
						t.Errorf("they carry %d bytes, want %d", len(got), len(payload))
					}
				})
			}
		}
	}
}

// carried checks every header of a frame and returns what it carries.
func carried(t *testing.T, f []byte) (payload []byte) {
	t.Helper()
	if !bytes.Equal(f[:vnetHeader], make([]byte, vnetHeader)) {
		t.Fatalf("virtio header % x", f[:vnetHeader])
	}
	packet := gopacket.NewPacket(f[vnetHeader:], layers.LayerTypeEthernet, gopacket.Default)
	if failed := packet.ErrorLayer(); failed != nil {
		t.Fatal(failed.Error())
	}
	var addresses []byte
	for _, l := range packet.Layers() {
		contents := append(append([]byte(nil), l.LayerContents()...), l.LayerPayload()...)
		pseudo := func(protocol uint32) uint32 { return uint32(sum16(addresses, protocol+uint32(len(contents)))) }
		switch l := l.(type) {
		case *layers.IPv4:
			addresses = l.Contents[12:20]
			if int(l.Length) != len(contents) || sum16(l.Contents, 0) != 0xffff {
				t.Errorf("an IPv4 header of length %d with %d bytes, sum %#x", l.Length, len(contents), sum16(l.Contents, 0))
			}
		case *layers.IPv6:
			addresses = l.Contents[8:40]
			if int(l.Length) != len(l.Payload) {
				t.Errorf("an IPv6 header of length %d with %d bytes", l.Length, len(l.Payload))
			}
		case *layers.UDP:
			if int(l.Length) != len(contents) || l.Checksum != 0 && sum16(contents, pseudo(protocolUDP)) != 0xffff {
				t.Errorf("a UDP header to %d of length %d with %d bytes, sum %#x", l.DstPort, l.Length, len(contents), sum16(contents, pseudo(protocolUDP)))
			}
			if (l.SrcPort == portWithSum || l.SrcPort == 5000) && l.Checksum == 0 {
				t.Errorf("a UDP header to %d without a checksum", l.DstPort)
			}
			payload = l.Payload
			if l.DstPort == 5555 {
				packet := gopacket.NewPacket(l.Payload, layers.LayerTypeIPv4, gopacket.Default)
				if l.Payload[0]>>4 == 6 {
					packet = gopacket.NewPacket(l.Payload, layers.LayerTypeIPv6, gopacket.Default)
				}
				payload = packet.TransportLayer().LayerPayload()
			}
		case *layers.TCP:
			if sum16(contents, pseudo(protocolTCP)) != 0xffff {
				t.Errorf("a TCP header with the sum %#x", sum16(contents, pseudo(protocolTCP)))
			}
			payload = l.Payload
		case *layers.GRE:
			if l.ChecksumPresent && sum16(contents, 0) != 0xffff {
				t.Errorf("a GRE header with the sum %#x", sum16(contents, 0))
			}
		}
	}
	return payload
}

// TestFramesOfManyFromTheKernelsTunnels: the kernel's own devices put them in, with
// checksums.
func TestFramesOfManyFromTheKernelsTunnels(t *testing.T) {
	near, far := net.IPv4(192, 0, 2, 1), net.IPv4(192, 0, 2, 2)
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "tunnel"
	for name, link := range map[string]netlink.Link{
		"VXLAN with a sum": &netlink.Vxlan{LinkAttrs: attributes, VxlanId: 7, Port: 4789, SrcAddr: near, Group: far, UDPCSum: true},
		"VXLAN":            &netlink.Vxlan{LinkAttrs: attributes, VxlanId: 7, Port: 4789, SrcAddr: near, Group: far},
		"GENEVE":           &netlink.Geneve{LinkAttrs: attributes, ID: 7, Dport: 6081, Remote: far},
		"bridged GRE":      &netlink.Gretap{LinkAttrs: attributes, Local: near, Remote: far, IFlags: 1 << 7, OFlags: 1 << 7},
	} {
		for what, inside := range insides {
			t.Run(name+", "+what, func(t *testing.T) {
				w := newWire(t, Options{})
				w.OpenInput()
				under := linkOf(t, "network")
				must(t, netlink.AddrAdd(under, &netlink.Addr{IPNet: &net.IPNet{IP: near, Mask: net.CIDRMask(24, 32)}}))
				must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: under.Attrs().Index, State: netlink.NUD_PERMANENT, IP: far, HardwareAddr: guestMAC[:]}))
				if err := netlink.LinkAdd(link); err != nil {
					t.Skipf("needs the kernel's tunnel device %s: %v", link.Type(), err)
				}
				os.WriteFile("/proc/sys/net/ipv6/conf/tunnel/disable_ipv6", []byte("1"), 0)
				must(t, netlink.LinkSetUp(linkOf(t, "tunnel")))
				from := endpoint(t, "tunnel")
				defer from.Close()
				payload := numbered(30011)
				must(t, from.send(partial(many(t, inside.kind, inside.size, payload))))
				var got []byte
				for len(got) < len(payload) {
					f := readAny(t, w.guest)
					if f == nil {
						t.Fatalf("%d bytes of %d arrive", len(got), len(payload))
					}
					got = append(got, carried(t, f)...)
				}
				if !bytes.Equal(got, payload) {
					t.Error("they carry something else")
				}
			})
		}
	}
}
