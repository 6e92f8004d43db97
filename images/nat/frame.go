package nat

import (
	"encoding/binary"
	"net/netip"
)

// Numbers of the protocols that the NAT speaks.
const (
	etherLen  = 14
	etherIPv4 = 0x0800
	etherARP  = 0x0806

	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17

	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10

	icmpEchoReply    = 0
	icmpUnreachable  = 3
	icmpEcho         = 8
	icmpTimeExceeded = 11
	icmpParameter    = 12

	codeNetUnreachable = 0 // of icmpUnreachable
	codeTooLong        = 4 // of icmpUnreachable
	codeInTransit      = 0 // of icmpTimeExceeded
)

func be16(b []byte) uint16         { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32         { return binary.BigEndian.Uint32(b) }
func put16(b []byte, v uint16)     { binary.BigEndian.PutUint16(b, v) }
func put32(b []byte, v uint32)     { binary.BigEndian.PutUint32(b, v) }
func fromAddr(a netip.Addr) uint32 { b := a.As4(); return be32(b[:]) }

func toAddr(v uint32) netip.Addr {
	var b [4]byte
	put32(b[:], v)
	return netip.AddrFrom4(b)
}

// packet is an IPv4 packet whose headers have been checked. Its slices lie in
// the frame.
type packet struct {
	frame []byte // from the Ethernet header to the end of the IP packet
	ip    []byte // from the IP header on
	l4    []byte // from the transport header on
	proto byte
	src   uint32
	dst   uint32
}

// parse checks Ethernet's and IP's framing and the transport header's length.
func parse(frame []byte) (packet, Drop) {
	ip := frame[etherLen:]
	if len(ip) < 20 || ip[0]>>4 != 4 {
		return packet{}, Malformed
	}
	header, total := int(ip[0]&15)*4, int(be16(ip[2:]))
	if header < 20 || total < header || total > len(ip) {
		return packet{}, Malformed
	}
	if checksum(ip[:header], 0) != 0 {
		return packet{}, BadChecksum
	}
	if be16(ip[6:])&0x3fff != 0 { // more fragments, or an offset
		return packet{}, Fragment
	}
	p := packet{
		frame: frame[:etherLen+total], ip: ip[:total], l4: ip[header:total],
		proto: ip[9], src: be32(ip[12:]), dst: be32(ip[16:]),
	}
	return p, p.checkTransport()
}

func (p *packet) checkTransport() Drop {
	ok := false
	switch p.proto {
	case protoTCP:
		ok = len(p.l4) >= 20 && int(p.l4[12]>>4)*4 >= 20 && int(p.l4[12]>>4)*4 <= len(p.l4)
	case protoUDP:
		ok = len(p.l4) >= 8 && be16(p.l4[4:]) >= 8 && int(be16(p.l4[4:])) <= len(p.l4)
	case protoICMP:
		ok = len(p.l4) >= 8
	default:
		return UnknownProtocol
	}
	if !ok {
		return Malformed
	}
	return none
}

// udpPayload is empty for any other protocol.
func (p *packet) udpPayload() []byte {
	if p.proto != protoUDP {
		return nil
	}
	return p.l4[8:be16(p.l4[4:])]
}

// checksumAt is where the transport checksum lies in l4.
func (p *packet) checksumAt() int {
	switch p.proto {
	case protoTCP:
		return 16
	case protoUDP:
		return 6
	}
	return 2
}

// setSource and setDestination rewrite one end of the packet and keep the
// checksums right.
func (p *packet) setSource(addr uint32, port uint16)      { p.rewrite(12, 0, addr, port) }
func (p *packet) setDestination(addr uint32, port uint16) { p.rewrite(16, 2, addr, port) }

func (p *packet) rewrite(addrAt, portAt int, addr uint32, port uint16) {
	if p.proto == protoICMP { // the identifier, whichever way; no pseudo header
		portAt = 4
	}
	oldAddr, oldPort := be32(p.ip[addrAt:]), be16(p.l4[portAt:])
	put32(p.ip[addrAt:], addr)
	put16(p.ip[10:], update32(be16(p.ip[10:]), oldAddr, addr))
	put16(p.l4[portAt:], port)
	c := p.l4[p.checksumAt():]
	sum := be16(c)
	if p.proto == protoUDP && sum == 0 { // the sender computed none
		return
	}
	sum = update16(sum, oldPort, port)
	if p.proto != protoICMP {
		sum = update32(sum, oldAddr, addr)
	}
	put16(c, nonZero(p.proto, sum))
}

// decrementTTL reports false where the packet has travelled far enough.
func (p *packet) decrementTTL() bool {
	if p.ip[8] <= 1 {
		return false
	}
	old := be16(p.ip[8:])
	p.ip[8]--
	put16(p.ip[10:], update16(be16(p.ip[10:]), old, be16(p.ip[8:])))
	return true
}
