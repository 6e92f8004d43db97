package nat

// local answers a packet to one of the NAT's own addresses: echo, nothing else.
func (n *NAT) local(from Port, p *packet, out []Output) ([]Output, Drop) {
	if p.proto != protoICMP || p.l4[0] != icmpEcho || p.l4[1] != 0 {
		return out, NoService
	}
	put16(p.l4[2:], update16(be16(p.l4[2:]), icmpEcho<<8, icmpEchoReply<<8))
	p.l4[0] = icmpEchoReply
	put32(p.ip[12:], p.dst) // swapped addresses leave the checksum as it is
	put32(p.ip[16:], p.src)
	old := be16(p.ip[8:])
	p.ip[8] = 64
	put16(p.ip[10:], update16(be16(p.ip[10:]), old, be16(p.ip[8:])))
	n.stats.EchoReplies++
	// The way back is the way it came: no neighbour needs to be asked.
	copy(p.frame[0:6], p.frame[6:12])
	copy(p.frame[6:12], n.ports[from].mac[:])
	return append(out, Output{Port: from, Frame: p.frame}), none
}

// inboundError translates an ICMP error about a packet of a known flow (RFC
// 5508, section 4): without it no path MTU discovery works behind the NAT.
func (n *NAT) inboundError(p *packet, out []Output) ([]Output, Drop) {
	if checksum(p.l4, 0) != 0 {
		return out, BadChecksum
	}
	inner, ok := quoted(p.l4[8:])
	if !ok {
		return out, Malformed
	}
	f := n.flows.findQuoted(inner)
	if f == nil || inner.src != n.ports[Out].addr {
		return out, NoFlow
	}
	if !p.decrementTTL() {
		return out, TTLExpired
	}
	inner.requote(f.key.inside, f.key.insidePort)
	put16(p.ip[10:], update32(be16(p.ip[10:]), p.dst, f.key.inside))
	put32(p.ip[16:], f.key.inside)
	put16(p.l4[2:], 0)
	put16(p.l4[2:], checksum(p.l4, 0))
	f.count(inward, p)
	n.stats.Forwarded[Out]++
	return n.send(In, f.key.inside, p, out)
}

// quoted reads the beginning of the packet that an ICMP error is about: its IP
// header and at least eight bytes.
func quoted(b []byte) (packet, bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return packet{}, false
	}
	header := int(b[0]&15) * 4
	if header < 20 || len(b) < header+8 || be16(b[6:])&0x1fff != 0 {
		return packet{}, false
	}
	p := packet{ip: b, l4: b[header:], proto: b[9], src: be32(b[12:]), dst: be32(b[16:])}
	return p, p.proto == protoTCP || p.proto == protoUDP || p.proto == protoICMP && p.l4[0] == icmpEcho
}

// requote puts the inside host back as the quoted packet's sender.
func (p *packet) requote(addr uint32, port uint16) {
	if p.checksumAt()+2 <= len(p.l4) {
		p.setSource(addr, port)
		return
	}
	put16(p.ip[10:], update32(be16(p.ip[10:]), p.src, addr))
	put32(p.ip[12:], addr)
	put16(p.l4, port) // only TCP's checksum lies beyond eight bytes
}
