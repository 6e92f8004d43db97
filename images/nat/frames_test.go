package nat

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// The network of the tests: client 10.1.0.2 - NAT - server 10.2.0.2.
var (
	insideMAC  = MAC{0x52, 0x54, 0, 0x5e, 0, 1}
	outsideMAC = MAC{0x52, 0x54, 0, 0x5e, 0, 2}
	clientMAC  = MAC{2, 0, 0, 0, 0, 1}
	serverMAC  = MAC{2, 0, 0, 0, 0, 2}
	insideIP   = netip.MustParseAddr("10.1.0.1")
	outsideIP  = netip.MustParseAddr("10.2.0.1")
	clientIP   = netip.MustParseAddr("10.1.0.2")
	serverIP   = netip.MustParseAddr("10.2.0.2")
)

func testConfig() Config {
	return Config{
		In:  PortConfig{MAC: insideMAC, Prefix: netip.PrefixFrom(insideIP, 24)},
		Out: PortConfig{MAC: outsideMAC, Prefix: netip.PrefixFrom(outsideIP, 24)},
	}
}

func newTest(t testing.TB, change func(*Config)) *NAT {
	t.Helper()
	c := testConfig()
	if change != nil {
		change(&c)
	}
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// meet makes client and server known to n.
func meet(n *NAT) {
	n.Process(0, In, arpFrame(arpRequest, clientMAC, clientIP, MAC{}, insideIP), nil)
	n.Process(0, Out, arpFrame(arpRequest, serverMAC, serverIP, MAC{}, outsideIP), nil)
}

func serialize(l ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func ether(src, dst MAC, t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: t}
}

func arpFrame(op uint16, mac MAC, addr netip.Addr, targetMAC MAC, target netip.Addr) []byte {
	return serialize(ether(mac, broadcastMAC, layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: op, SourceHwAddress: mac[:], SourceProtAddress: addr.AsSlice(),
		DstHwAddress: targetMAC[:], DstProtAddress: target.AsSlice(),
	})
}

func ipLayer(src, dst netip.Addr, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: proto, SrcIP: net.IP(src.AsSlice()), DstIP: net.IP(dst.AsSlice())}
}

// between gives the MACs of a frame that arrives at a port.
func between(p Port) (src, dst MAC) {
	if p == In {
		return clientMAC, insideMAC
	}
	return serverMAC, outsideMAC
}

func ipFrame(at Port, ip *layers.IPv4, l ...gopacket.SerializableLayer) []byte {
	src, dst := between(at)
	return serialize(append([]gopacket.SerializableLayer{ether(src, dst, layers.EthernetTypeIPv4), ip}, l...)...)
}

func udpFrame(at Port, src, dst netip.AddrPort, payload []byte) []byte {
	ip := ipLayer(src.Addr(), dst.Addr(), layers.IPProtocolUDP)
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	udp.SetNetworkLayerForChecksum(ip)
	return ipFrame(at, ip, udp, gopacket.Payload(payload))
}

func tcpFrame(at Port, src, dst netip.AddrPort, flags byte) []byte {
	ip := ipLayer(src.Addr(), dst.Addr(), layers.IPProtocolTCP)
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: 1, Window: 100,
		SYN: flags&flagSYN != 0, ACK: flags&flagACK != 0, FIN: flags&flagFIN != 0, RST: flags&flagRST != 0,
	}
	tcp.SetNetworkLayerForChecksum(ip)
	return ipFrame(at, ip, tcp, gopacket.Payload("data"))
}

func echoFrame(at Port, src, dst netip.Addr, kind byte, id uint16) []byte {
	return ipFrame(at, ipLayer(src, dst, layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: id, Seq: 3}, gopacket.Payload("echo data"))
}

func ap(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// seen is what matters in a forwarded frame.
type seen struct {
	port     Port
	src, dst netip.AddrPort
	payload  string
}

// look reads a frame with a decoder that is not ours and checks every checksum.
func look(t *testing.T, o Output) seen {
	t.Helper()
	pkt := gopacket.NewPacket(append([]byte(nil), o.Frame...), layers.LayerTypeEthernet, gopacket.Default)
	if e := pkt.ErrorLayer(); e != nil {
		t.Fatalf("frame from port %v: %v", o.Port, e.Error())
	}
	if again := computed(pkt); !bytes.HasPrefix(again, o.Frame) { // again may be padded
		t.Fatalf("checksums of the frame from port %v:\n got %x\nwant %x", o.Port, o.Frame, again)
	}
	return describe(o.Port, pkt)
}

// computed is a packet serialised anew with all its checksums.
func computed(pkt gopacket.Packet) []byte {
	var list []gopacket.SerializableLayer
	ip := pkt.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	for _, l := range pkt.Layers()[:3] {
		if transport, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			transport.SetNetworkLayerForChecksum(ip)
		}
		list = append(list, l.(gopacket.SerializableLayer))
	}
	return serialize(append(list, gopacket.Payload(pkt.Layers()[2].LayerPayload()))...)
}

func describe(p Port, pkt gopacket.Packet) seen {
	s := seen{port: p}
	ip := pkt.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	src, _ := netip.AddrFromSlice(ip.SrcIP)
	dst, _ := netip.AddrFromSlice(ip.DstIP)
	s.src, s.dst = ap(src, 0), ap(dst, 0)
	switch l := pkt.Layers()[2].(type) {
	case *layers.UDP:
		s.src, s.dst, s.payload = ap(src, uint16(l.SrcPort)), ap(dst, uint16(l.DstPort)), string(l.Payload)
	case *layers.TCP:
		s.src, s.dst, s.payload = ap(src, uint16(l.SrcPort)), ap(dst, uint16(l.DstPort)), string(l.Payload)
	case *layers.ICMPv4:
		s.src, s.dst, s.payload = ap(src, l.Id), ap(dst, l.Id), string(l.Payload)
	}
	return s
}

// one expects exactly one output.
func one(t *testing.T, out []Output) Output {
	t.Helper()
	if len(out) != 1 {
		t.Fatalf("%d frames sent, want 1", len(out))
	}
	return out[0]
}

// dropped expects a frame to be dropped for a reason.
func dropped(t *testing.T, n *NAT, now time.Duration, at Port, frame []byte, why Drop) {
	t.Helper()
	before := n.Stats().Drops[why]
	if out := n.Process(now, at, frame, nil); len(out) != 0 {
		t.Fatalf("sent %d frames, want a drop: %v", len(out), why)
	}
	if n.Stats().Drops[why] != before+1 {
		t.Fatalf("drops %v, want one more %v", n.Stats().Drops, why)
	}
}
