package nat

import "github.com/stillpoint-ft/stillpoint/proto/probe"

// outbound handles a packet that arrived at In.
func (n *NAT) outbound(p *packet, out []Output) ([]Output, Drop) {
	in, outside := &n.ports[In], &n.ports[Out]
	if !in.usable(p.src) {
		return out, BadSource
	}
	if p.dst == in.addr || p.dst == outside.addr {
		return n.local(In, p, out)
	}
	if p.isError() {
		return n.outboundError(p, out)
	}
	hop, ok := n.nextHop(p.dst)
	if !ok && in.holds(p.dst) {
		return out, NoRoute // its own network's host has to be asked, not this one
	}
	if !ok {
		return n.complain(In, p, icmpUnreachable, codeNetUnreachable, 0, out), NoRoute
	}
	key, drop := outboundKey(p)
	if drop != none {
		return out, drop
	}
	if p.ip[8] <= 1 {
		return n.complain(In, p, icmpTimeExceeded, codeInTransit, 0, out), TTLExpired
	}
	if out, long := n.tooLong(In, Out, p, out); long {
		return out, TooLong
	}
	f := n.flows.find(key)
	if f == nil {
		if f, drop = n.newFlow(p, key); drop != none {
			return out, drop
		}
	}
	f.count(outward, p)
	n.flows.track(f, n.now, outward, p)
	p.decrementTTL()
	p.setSource(outside.addr, f.external)
	n.stats.Forwarded[In]++
	return n.send(Out, hop, p, out)
}

// nextHop finds the neighbour at Out that leads to dst.
func (n *NAT) nextHop(dst uint32) (uint32, bool) {
	if !routable(dst) || n.ports[In].holds(dst) {
		return 0, false
	}
	if n.ports[Out].holds(dst) {
		return dst, n.ports[Out].usable(dst)
	}
	return n.gateway, n.gateway != 0
}

// routable is false for "this network", loopback, multicast and above.
func routable(addr uint32) bool {
	first := addr >> 24
	return first != 0 && first != 127 && first < 224
}

func outboundKey(p *packet) (flowKey, Drop) {
	k := flowKey{proto: p.proto, inside: p.src, remote: p.dst}
	if p.proto == protoICMP {
		if p.l4[0] != icmpEcho || p.l4[1] != 0 {
			return k, UnknownProtocol
		}
		k.insidePort = be16(p.l4[4:])
		return k, none
	}
	k.insidePort, k.remotePort = be16(p.l4[0:]), be16(p.l4[2:])
	return k, none
}

// newFlow opens a flow; a TCP connection begins with a SYN or not at all.
func (n *NAT) newFlow(p *packet, key flowKey) (*flow, Drop) {
	if p.proto == protoTCP && p.l4[13]&(flagSYN|flagACK|flagRST|flagFIN) != flagSYN {
		return nil, NoFlow
	}
	f := n.flows.open(key, n.now)
	if f == nil {
		return nil, TableFull
	}
	return f, none
}

// inbound handles a packet that arrived at Out.
func (n *NAT) inbound(p *packet, out []Output) ([]Output, Drop) {
	if p.dst != n.ports[Out].addr {
		return out, NotForUs
	}
	if !routable(p.src) || n.ports[In].holds(p.src) || p.src == p.dst {
		return out, BadSource
	}
	if p.proto == protoICMP {
		switch p.l4[0] {
		case icmpEcho:
			return n.local(Out, p, out)
		case icmpUnreachable, icmpTimeExceeded, icmpParameter:
			return n.inboundError(p, out)
		case icmpEchoReply:
		default:
			return out, UnknownProtocol
		}
	}
	f := n.flows.findInbound(p)
	if f == nil {
		return out, NoFlow
	}
	if p.ip[8] <= 1 {
		return n.complain(Out, p, icmpTimeExceeded, codeInTransit, 0, out), TTLExpired
	}
	if out, long := n.tooLong(Out, In, p, out); long {
		return out, TooLong
	}
	p.decrementTTL()
	f.count(inward, p)
	n.flows.track(f, n.now, inward, p)
	p.setDestination(f.key.inside, f.key.insidePort)
	n.stats.Forwarded[Out]++
	return n.send(In, f.key.inside, p, out)
}

// send hands a translated packet to the neighbour hop, or keeps a copy until the
// neighbour has said who it is.
func (n *NAT) send(to Port, hop uint32, p *packet, out []Output) ([]Output, Drop) {
	mac, known, out := n.resolve(to, hop, out)
	if !known {
		displaced, drop := n.pending.push(to, hop, p)
		n.stats.Drops[PendingFull] += displaced
		return out, drop
	}
	return append(out, n.transmit(to, mac, p)), none
}

// transmit completes a frame. The stamp is issued here and nowhere else, so that
// the order of stamps is the order in which frames leave.
func (n *NAT) transmit(to Port, mac MAC, p *packet) Output {
	copy(p.frame[0:6], mac[:])
	copy(p.frame[6:12], n.ports[to].mac[:])
	if n.oracle && probe.Is(p.udpPayload()) {
		n.stamp(p)
	}
	return Output{Port: to, Frame: p.frame}
}

func (n *NAT) stamp(p *packet) {
	n.stamps++
	at := p.udpPayload()[probe.StampOffset:]
	high, low := uint32(n.stamps>>32), uint32(n.stamps)
	if sum := be16(p.l4[6:]); sum != 0 { // 0: the sender computed none
		sum = update32(update32(sum, be32(at), high), be32(at[4:]), low)
		put16(p.l4[6:], nonZero(protoUDP, sum))
	}
	put32(at, high)
	put32(at[4:], low)
}
