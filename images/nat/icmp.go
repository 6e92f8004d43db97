package nat

import "time"

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
	if f == nil || inner.quotes(icmpEchoReply) || inner.src != n.ports[Out].addr {
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

// outboundError translates what an inside host or router says about a packet that
// came from outside (RFC 5508, section 4.2): the sender out there would never
// learn otherwise that its packets arrive nowhere.
func (n *NAT) outboundError(p *packet, out []Output) ([]Output, Drop) {
	if checksum(p.l4, 0) != 0 {
		return out, BadChecksum
	}
	inner, ok := quoted(p.l4[8:])
	if !ok {
		return out, Malformed
	}
	f := n.flows.find(inner.answeredKey())
	if f == nil || inner.quotes(icmpEcho) || p.dst != inner.src {
		return out, NoFlow
	}
	hop, ok := n.nextHop(p.dst)
	if !ok {
		return out, NoRoute
	}
	if !p.decrementTTL() {
		return out, TTLExpired
	}
	outside := n.ports[Out].addr
	inner.requoteTarget(outside, f.external)
	put16(p.ip[10:], update32(be16(p.ip[10:]), p.src, outside))
	put32(p.ip[12:], outside)
	put16(p.l4[2:], 0)
	put16(p.l4[2:], checksum(p.l4, 0))
	f.count(outward, p)
	n.stats.Forwarded[In]++
	return n.send(Out, hop, p, out)
}

// isError reports an ICMP error, as the packets of a flow bring them about.
func (p *packet) isError() bool {
	return p.proto == protoICMP && (p.l4[0] == icmpUnreachable || p.l4[0] == icmpTimeExceeded || p.l4[0] == icmpParameter)
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
	return p, p.proto == protoTCP || p.proto == protoUDP || p.proto == protoICMP && (p.l4[0] == icmpEcho || p.l4[0] == icmpEchoReply)
}

// quotes reports a quoted ICMP message of a type.
func (p *packet) quotes(kind byte) bool { return p.proto == protoICMP && p.l4[0] == kind }

// answeredKey is the flow that a quoted packet from outside, already translated,
// belongs to.
func (p *packet) answeredKey() flowKey {
	k := flowKey{proto: p.proto, inside: p.dst, remote: p.src}
	if p.proto == protoICMP {
		k.insidePort = be16(p.l4[4:])
		return k
	}
	k.insidePort, k.remotePort = be16(p.l4[2:]), be16(p.l4)
	return k
}

// requote puts the inside host back as the quoted packet's sender.
func (p *packet) requote(addr uint32, port uint16) { p.requoteAt(12, 0, addr, port) }

// requoteTarget puts the outside address back as the quoted packet's target.
func (p *packet) requoteTarget(addr uint32, port uint16) { p.requoteAt(16, 2, addr, port) }

func (p *packet) requoteAt(addrAt, portAt int, addr uint32, port uint16) {
	if p.checksumAt()+2 <= len(p.l4) {
		p.rewrite(addrAt, portAt, addr, port)
		return
	}
	put16(p.ip[10:], update32(be16(p.ip[10:]), be32(p.ip[addrAt:]), addr))
	put32(p.ip[addrAt:], addr)
	put16(p.l4[portAt:], port) // only TCP's checksum lies beyond eight bytes
}

const (
	icmpHeader = 8
	// mostQuoted keeps an error within 576 bytes (RFC 1812, section 4.3.2.3).
	mostQuoted = 576 - 20 - icmpHeader
	// errorRate and errorBurst bound the errors that the NAT sends by itself (RFC
	// 1812, section 4.3.2.8): per second, and at once.
	errorRate  = 100
	errorBurst = 20
)

// errorBudget is a bucket of tokens, filled by time.
type errorBudget struct {
	tokens float64
	filled time.Duration
}

func (b *errorBudget) take(now time.Duration) bool {
	b.tokens = min(errorBurst, b.tokens+(now-b.filled).Seconds()*errorRate)
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// complain answers a packet that cannot go on, as a router has to (RFC 1812,
// sections 4.3.2.7 and 5.3.1), with info in the second half of the header's rest.
// It answers no error, nothing that went to or came from many, and not more than
// its budget allows. The packet must be as it arrived.
func (n *NAT) complain(from Port, p *packet, kind, code byte, info uint16, out []Output) []Output {
	if p.isError() || p.frame[0]&1 != 0 || !n.singleHost(p.src) || !n.singleHost(p.dst) || !n.budget.take(n.now) {
		return out
	}
	quote := p.ip[:min(len(p.ip), mostQuoted)]
	f := n.errorFrame[:etherLen+20+icmpHeader+len(quote)]
	copy(f[0:6], p.frame[6:12]) // the way back is the way it came
	copy(f[6:12], n.ports[from].mac[:])
	put16(f[12:], etherIPv4)
	ip := f[etherLen:]
	clear(ip[:20+icmpHeader])
	ip[0], ip[1], ip[8], ip[9] = 0x45, 0xc0, 64, protoICMP // internetwork control
	put16(ip[2:], uint16(len(ip)))
	put32(ip[12:], n.ports[from].addr)
	put32(ip[16:], p.src)
	put16(ip[10:], checksum(ip[:20], 0))
	icmp := ip[20:]
	icmp[0], icmp[1] = kind, code
	put16(icmp[6:], info)
	copy(icmp[icmpHeader:], quote)
	put16(icmp[2:], checksum(icmp, 0))
	n.stats.Errors++
	return append(out, Output{Port: from, Frame: f})
}

// singleHost is false for addresses that are many hosts' or nobody's.
func (n *NAT) singleHost(addr uint32) bool {
	for i := range n.ports {
		if p := &n.ports[i]; p.holds(addr) {
			return addr == p.addr || p.usable(addr)
		}
	}
	return routable(addr)
}

// tooLong says why a packet does not fit through a port. Without the flag that
// forbids it a router would fragment; this one drops fragments and makes none.
func (n *NAT) tooLong(from, to Port, p *packet, out []Output) ([]Output, bool) {
	mtu := n.ports[to].mtu
	if len(p.ip) <= mtu {
		return out, false
	}
	return n.complain(from, p, icmpUnreachable, codeTooLong, uint16(min(mtu, 0xffff)), out), true
}
