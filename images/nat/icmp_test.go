package nat

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// errorFrame is an ICMP error about the beginning of an IP packet.
func errorFrame(at Port, src, dst netip.Addr, kind, code byte, about []byte) []byte {
	return ipFrame(at, ipLayer(src, dst, layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code)}, gopacket.Payload(about))
}

// TestErrorsFromInsideLeave: a host inside, or a router there, says that what came
// from outside arrives nowhere; the sender out there hears of it, in its own terms.
func TestErrorsFromInsideLeave(t *testing.T) {
	router := netip.MustParseAddr("10.1.0.77")
	answers := map[string]func(n *NAT) []byte{
		"UDP": func(n *NAT) []byte {
			n.Process(1, In, udpFrame(In, ap(clientIP, 500), ap(serverIP, 7000), nil), nil)
			return udpFrame(Out, ap(serverIP, 7000), ap(outsideIP, n.Flows(1)[0].External), []byte("answer"))
		},
		"TCP": func(n *NAT) []byte {
			n.Process(1, In, tcpFrame(In, ap(clientIP, 500), ap(serverIP, 80), flagSYN), nil)
			return tcpFrame(Out, ap(serverIP, 80), ap(outsideIP, n.Flows(1)[0].External), flagSYN|flagACK)
		},
		"echo": func(n *NAT) []byte {
			n.Process(1, In, echoFrame(In, clientIP, serverIP, icmpEcho, 9), nil)
			return echoFrame(Out, serverIP, outsideIP, icmpEchoReply, 9)
		},
	}
	for protocol, answer := range answers {
		for name, e := range map[string]struct {
			from       netip.Addr
			kind, code byte
		}{"port unreachable": {clientIP, icmpUnreachable, 3}, "too long": {router, icmpUnreachable, 4},
			"time exceeded": {router, icmpTimeExceeded, 0}, "reassembly": {clientIP, icmpTimeExceeded, 1}, "parameter": {clientIP, icmpParameter, 0}} {
			for _, quote := range []int{28, 1 << 16} {
				n := newTest(t, nil)
				meet(n)
				original := answer(n)
				inside := one(t, n.Process(2, Out, append([]byte(nil), original...), nil)).Frame[etherLen:]
				s := look(t, one(t, n.Process(3, In, errorFrame(In, e.from, serverIP, e.kind, e.code, inside[:min(quote, len(inside))]), nil)))
				if s.port != Out || s.src.Addr() != outsideIP || s.dst.Addr() != serverIP {
					t.Errorf("%s, %s: %+v", protocol, name, s)
				}
				sameQuote(t, []byte(s.payload), original[etherLen:])
			}
		}
	}
}

// sameQuote expects the quoted packet to be what its sender has sent, as far as the
// sender looks: addresses, ports and checksums. The TTL is the way's.
func sameQuote(t *testing.T, got, sent []byte) {
	t.Helper()
	sent = append([]byte(nil), sent[:len(got)]...)
	sent[8] = got[8]
	put16(sent[10:], 0)
	put16(sent[10:], checksum(sent[:20], 0))
	if string(got) != string(sent) {
		t.Errorf("quoted\n got %x\nwant %x", got, sent)
	}
}

func TestErrorsFromInsideThatStay(t *testing.T) {
	n := newTest(t, nil)
	meet(n)
	n.Process(1, In, udpFrame(In, ap(clientIP, 500), ap(serverIP, 7000), nil), nil)
	answer := one(t, n.Process(2, Out, udpFrame(Out, ap(serverIP, 7000), ap(outsideIP, n.Flows(1)[0].External), nil), nil)).Frame[etherLen:]
	good := func() []byte { return errorFrame(In, clientIP, serverIP, icmpUnreachable, 3, answer) }
	broken := good()
	broken[len(broken)-1] ^= 1
	lastHop := good()
	lastHop[etherLen+8] = 1
	put16(lastHop[etherLen+10:], 0)
	put16(lastHop[etherLen+10:], checksum(lastHop[etherLen:etherLen+20], 0))
	other := append([]byte(nil), answer...)
	put16(other[20:], 7001)
	for name, c := range map[string]struct {
		frame []byte
		why   Drop
	}{
		"checksum":             {broken, BadChecksum},
		"cut":                  {errorFrame(In, clientIP, serverIP, icmpUnreachable, 3, answer[:27]), Malformed},
		"no such flow":         {errorFrame(In, clientIP, serverIP, icmpUnreachable, 3, other), NoFlow},
		"to another":           {errorFrame(In, clientIP, netip.MustParseAddr("10.2.0.9"), icmpUnreachable, 3, answer), NoFlow},
		"last hop":             {lastHop, TTLExpired},
		"about the wrong echo": {errorFrame(In, clientIP, serverIP, icmpUnreachable, 3, echoFrame(Out, serverIP, clientIP, icmpEcho, 9)[etherLen:]), NoFlow},
	} {
		t.Run(name, func(t *testing.T) { dropped(t, n, 3, In, c.frame, c.why) })
	}
}

func withIP(at Port, change func(*layers.IPv4), src, dst netip.AddrPort, payload int) []byte {
	ip := ipLayer(src.Addr(), dst.Addr(), layers.IPProtocolUDP)
	change(ip)
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	udp.SetNetworkLayerForChecksum(ip)
	return ipFrame(at, ip, udp, gopacket.Payload(make([]byte, payload)))
}

// TestRouterSaysWhy: a packet that cannot go on is answered from the side on which it
// came, about what its sender sent.
func TestRouterSaysWhy(t *testing.T) {
	lastHop := func(ip *layers.IPv4) { ip.TTL = 1 }
	whole := func(ip *layers.IPv4) { ip.Flags = layers.IPv4DontFragment }
	for name, c := range map[string]struct {
		at    Port
		frame func() []byte
		kind  byte
		code  byte
		mtu   uint16
		why   Drop
	}{
		"TTL inside":       {In, func() []byte { return withIP(In, lastHop, ap(clientIP, 5000), ap(serverIP, 33434), 10) }, icmpTimeExceeded, 0, 0, TTLExpired},
		"TTL outside":      {Out, func() []byte { return withIP(Out, lastHop, ap(serverIP, 7000), ap(outsideIP, 5000), 10) }, icmpTimeExceeded, 0, 0, TTLExpired},
		"no route":         {In, func() []byte { return udpFrame(In, ap(clientIP, 5000), ap(netip.MustParseAddr("192.0.2.1"), 1), nil) }, icmpUnreachable, 0, 0, NoRoute},
		"too long outward": {In, func() []byte { return withIP(In, whole, ap(clientIP, 5000), ap(serverIP, 7000), 1373) }, icmpUnreachable, 4, 1400, TooLong},
		"too long inward":  {Out, func() []byte { return withIP(Out, whole, ap(serverIP, 7000), ap(outsideIP, 5000), 1273) }, icmpUnreachable, 4, 1300, TooLong},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTest(t, func(c *Config) { c.In.MTU, c.Out.MTU = 1300, 1400 })
			meet(n)
			n.Process(1, In, udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), nil), nil)
			frame := c.frame()
			src, dst := between(c.at)
			o := one(t, n.Process(2, c.at, append([]byte(nil), frame...), nil))
			s := look(t, o)
			if s.port != c.at || MAC(o.Frame[:6]) != src || MAC(o.Frame[6:12]) != dst || s.src.Addr() != toAddr(n.ports[c.at].addr) || s.dst.Addr() != toAddr(be32(frame[etherLen+12:])) {
				t.Errorf("%+v", s)
			}
			icmp := o.Frame[etherLen+20:]
			if icmp[0] != c.kind || icmp[1] != c.code || be16(icmp[6:]) != c.mtu || n.Stats().Drops[c.why] != 1 || n.Stats().Errors != 1 {
				t.Errorf("type %d, code %d, MTU %d, drops %v", icmp[0], icmp[1], be16(icmp[6:]), n.Stats().Drops)
			}
			if want := frame[etherLen:][:min(int(be16(frame[etherLen+2:])), mostQuoted)]; s.payload != string(want) {
				t.Errorf("quoted\n got %x\nwant %x", s.payload, want)
			}
		})
	}
}

func TestWhatFitsGoesOn(t *testing.T) {
	n := newTest(t, func(c *Config) { c.In.MTU, c.Out.MTU = 1300, 1400 })
	meet(n)
	if s := look(t, one(t, n.Process(1, In, withIP(In, func(*layers.IPv4) {}, ap(clientIP, 5000), ap(serverIP, 7000), 1372), nil))); s.port != Out {
		t.Errorf("%+v", s)
	}
	if s := look(t, one(t, n.Process(1, Out, withIP(Out, func(*layers.IPv4) {}, ap(serverIP, 7000), ap(outsideIP, 5000), 1272), nil))); s.port != In {
		t.Errorf("%+v", s)
	}
}

// TestRouterKeepsSilent where an answer would answer an answer, or go to many.
func TestRouterKeepsSilent(t *testing.T) {
	lastHop := func(ip *layers.IPv4) { ip.TTL = 1 }
	n := newTest(t, nil)
	meet(n)
	sent := one(t, n.Process(1, In, udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), nil), nil)).Frame[etherLen:]
	about := errorFrame(Out, serverIP, outsideIP, icmpUnreachable, 3, sent)
	about[etherLen+8] = 1
	put16(about[etherLen+10:], 0)
	put16(about[etherLen+10:], checksum(about[etherLen:etherLen+20], 0))
	dropped(t, n, 2, Out, about, TTLExpired)
	dropped(t, n, 2, In, udpFrame(In, ap(clientIP, 5000), ap(netip.MustParseAddr("10.2.0.255"), 1), nil), NoRoute)
	dropped(t, n, 2, In, udpFrame(In, ap(clientIP, 5000), ap(netip.MustParseAddr("224.0.0.9"), 1), nil), NoRoute)
	answered := 0
	for range 50 * errorBurst {
		answered += len(n.Process(3, In, withIP(In, lastHop, ap(clientIP, 5000), ap(serverIP, 33434), 10), nil))
	}
	if answered != errorBurst {
		t.Errorf("%d of a burst were answered, want %d", answered, errorBurst)
	}
	if out := n.Process(3+time.Second, In, withIP(In, lastHop, ap(clientIP, 5000), ap(serverIP, 33434), 10), nil); len(out) != 1 {
		t.Error("silent for good")
	}
}
