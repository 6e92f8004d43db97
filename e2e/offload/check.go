package offload

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Complete does what the kernel does with a checksum that is to be completed.
func Complete(f []byte) {
	native := binary.NativeEndian
	start := VirtioHeader + int(native.Uint16(f[ChecksumStart:]))
	at := start + int(native.Uint16(f[ChecksumOffset:]))
	rest := append([]byte(nil), f[start:]...)
	if len(rest)%2 == 1 {
		rest = append(rest, 0)
	}
	binary.BigEndian.PutUint16(f[at:], ^sum(rest, 0))
}

// checkSums of the IP and the transport header.
func checkSums(t testing.TB, packet gopacket.Packet) {
	t.Helper()
	addresses, protocol := packet.NetworkLayer().LayerContents()[8:], uint32(6)
	if ip, ok := packet.NetworkLayer().(*layers.IPv4); ok {
		addresses = ip.Contents[12:20]
		if got := sum(ip.Contents, 0); got != 0xffff {
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
	if got := sum(append(append([]byte(nil), addresses...), segment...), protocol+length); got != 0xffff {
		t.Errorf("the sum of a segment is %#x", got)
	}
}

// Reassemble checks the headers of each piece as a receiver does, and joins what they
// carry.
func Reassemble(t testing.TB, pieces [][]byte) (payload []byte) {
	t.Helper()
	for i, f := range pieces {
		packet := gopacket.NewPacket(f[VirtioHeader:], layers.LayerTypeEthernet, gopacket.Default)
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

// Bare is a frame with complete sums.
func Bare(f []byte) []byte {
	f = append([]byte(nil), f...)
	if f[Flags]&NeedsChecksum != 0 {
		Complete(f)
	}
	return f[VirtioHeader:]
}

// Carried checks every header of a frame and returns what it carries.
func Carried(t testing.TB, f []byte) (payload []byte) {
	t.Helper()
	if !bytes.Equal(f[:VirtioHeader], make([]byte, VirtioHeader)) {
		t.Fatalf("virtio header % x", f[:VirtioHeader])
	}
	packet := gopacket.NewPacket(f[VirtioHeader:], layers.LayerTypeEthernet, gopacket.Default)
	if failed := packet.ErrorLayer(); failed != nil {
		t.Fatal(failed.Error())
	}
	var addresses []byte
	for _, l := range packet.Layers() {
		contents := append(append([]byte(nil), l.LayerContents()...), l.LayerPayload()...)
		pseudo := func(protocol uint32) uint32 { return uint32(sum(addresses, protocol+uint32(len(contents)))) }
		switch l := l.(type) {
		case *layers.IPv4:
			addresses = l.Contents[12:20]
			if int(l.Length) != len(contents) || sum(l.Contents, 0) != 0xffff {
				t.Errorf("an IPv4 header of length %d with %d bytes, sum %#x", l.Length, len(contents), sum(l.Contents, 0))
			}
		case *layers.IPv6:
			addresses = l.Contents[8:40]
			if int(l.Length) != len(l.Payload) {
				t.Errorf("an IPv6 header of length %d with %d bytes", l.Length, len(l.Payload))
			}
		case *layers.UDP:
			if int(l.Length) != len(contents) || l.Checksum != 0 && sum(contents, pseudo(17)) != 0xffff {
				t.Errorf("a UDP header to %d of length %d with %d bytes, sum %#x", l.DstPort, l.Length, len(contents), sum(contents, pseudo(17)))
			}
			if (l.SrcPort == portWithSum || l.SrcPort == 5000) && l.Checksum == 0 {
				t.Errorf("a UDP header to %d without a checksum", l.DstPort)
			}
			payload = inUDP(l)
		case *layers.TCP:
			if sum(contents, pseudo(6)) != 0xffff {
				t.Errorf("a TCP header with the sum %#x", sum(contents, pseudo(6)))
			}
			payload = l.Payload
		case *layers.GRE:
			if l.ChecksumPresent && sum(contents, 0) != 0xffff {
				t.Errorf("a GRE header with the sum %#x", sum(contents, 0))
			}
		}
	}
	return payload
}

// inUDP is what a datagram carries, or what a frame in a tunnel of IP over UDP does.
func inUDP(l *layers.UDP) []byte {
	if l.DstPort != 5555 {
		return l.Payload
	}
	first := layers.LayerTypeIPv4
	if l.Payload[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	return gopacket.NewPacket(l.Payload, first, gopacket.Default).TransportLayer().LayerPayload()
}
