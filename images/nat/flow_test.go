package nat

import (
	"net/netip"
	"testing"
	"time"
)

// connect opens a TCP connection through n and returns its flow.
func connect(t *testing.T, n *NAT, port uint16) Flow {
	t.Helper()
	c, s := ap(clientIP, port), ap(serverIP, 80)
	n.Process(1, In, tcpFrame(In, c, s, flagSYN), nil)
	ext := n.Flows(1 << 16)
	for _, f := range ext {
		if f.Inside == c {
			n.Process(1, Out, tcpFrame(Out, s, ap(outsideIP, f.External), flagSYN|flagACK), nil)
			n.Process(1, In, tcpFrame(In, c, s, flagACK), nil)
			return f
		}
	}
	t.Fatal("no flow")
	return Flow{}
}

func TestTCPStates(t *testing.T) {
	type step struct {
		at    Port
		flags byte
		want  string
	}
	for name, steps := range map[string][]step{
		"both ends close": {{Out, flagACK, "established"}, {In, flagFIN | flagACK, "established"}, {Out, flagFIN | flagACK, "closing"}, {In, flagACK, "closing"}},
		"reset":           {{Out, flagRST, "closing"}},
		"forged reset":    {{Out, flagRST, "closing"}, {In, flagACK, "established"}},
		"ports again":     {{In, flagFIN | flagACK, "established"}, {Out, flagFIN | flagACK, "closing"}, {In, flagSYN, "opening"}, {Out, flagSYN | flagACK, "opening"}, {In, flagACK, "established"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTest(t, nil)
			meet(n)
			connect(t, n, 4000)
			for i, s := range steps {
				src, dst := ap(clientIP, 4000), ap(serverIP, 80)
				if s.at == Out {
					src, dst = dst, ap(outsideIP, 4000)
				}
				look(t, one(t, n.Process(2, s.at, tcpFrame(s.at, src, dst, s.flags), nil)))
				if got := n.Flows(1)[0].State; got != s.want {
					t.Fatalf("after step %d: %s, want %s", i, got, s.want)
				}
			}
		})
	}
}

func TestIdleFlowsAreForgotten(t *testing.T) {
	timeouts := Timeouts{ICMP: 1 * time.Second, UDPOneWay: 2 * time.Second, UDP: 3 * time.Second, TCPOpening: 4 * time.Second, TCPClosing: 5 * time.Second, TCPEstablished: 6 * time.Second}
	n := newTest(t, func(c *Config) { c.Timeouts = timeouts })
	meet(n)
	n.Process(1, In, echoFrame(In, clientIP, serverIP, icmpEcho, 1), nil)
	n.Process(1, In, udpFrame(In, ap(clientIP, 2000), ap(serverIP, 9), nil), nil)
	n.Process(1, In, udpFrame(In, ap(clientIP, 3000), ap(serverIP, 9), nil), nil)
	n.Process(1, Out, udpFrame(Out, ap(serverIP, 9), ap(outsideIP, 3000), nil), nil)
	n.Process(1, In, tcpFrame(In, ap(clientIP, 4000), ap(serverIP, 80), flagSYN), nil)
	connect(t, n, 5000)
	n.Process(1, In, tcpFrame(In, ap(clientIP, 5000), ap(serverIP, 80), flagRST), nil)
	connect(t, n, 6000)
	for left := 6; left >= 0; left-- {
		if got := n.Stats().Flows; got != left {
			t.Fatalf("%d flows, want %d", got, left)
		}
		n.Tick(time.Duration(7-left)*time.Second+1, nil)
	}
	if s := n.Stats(); s.FlowsExpired != 6 || s.FlowsOpened != 6 {
		t.Fatalf("stats %+v", s)
	}
	for p, taken := range n.flows.byExternal {
		for port, i := range taken {
			if i != nobody {
				t.Fatalf("port %d of protocol %d still taken", port, p)
			}
		}
	}
}

func TestFullTableKeepsConnections(t *testing.T) {
	n := newTest(t, func(c *Config) { c.MaxFlows = 4 })
	meet(n)
	connect(t, n, 5000)
	for i := range 100 { // a flood displaces itself
		look(t, one(t, n.Process(2, In, udpFrame(In, ap(clientIP, uint16(6000+i)), ap(serverIP, 9), nil), nil)))
	}
	look(t, one(t, n.Process(2, Out, tcpFrame(Out, ap(serverIP, 80), ap(outsideIP, 5000), flagACK), nil)))
	if s := n.Stats(); s.Flows != 4 || s.FlowsEvicted != 97 {
		t.Fatalf("stats %+v", s)
	}
	for p := uint16(5001); p < 5004; p++ {
		connect(t, n, p)
	}
	dropped(t, n, 2, In, tcpFrame(In, ap(clientIP, 7000), ap(serverIP, 80), flagSYN), TableFull)
}

func TestEveryPortCanBeUsed(t *testing.T) {
	n := newTest(t, func(c *Config) { c.MaxFlows = mostFlows })
	for i := range mostFlows {
		k := flowKey{proto: protoUDP, inside: 1, remote: uint32(i), insidePort: 5}
		if n.flows.open(k, 0) == nil {
			t.Fatalf("flow %d refused", i)
		}
	}
}

func FuzzProcess(f *testing.F) {
	seed := func(at Port, frame []byte) { f.Add(byte(at), frame) }
	seed(In, udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), []byte("SPROBE01")))
	seed(Out, udpFrame(Out, ap(serverIP, 7000), ap(outsideIP, 5000), nil))
	seed(In, tcpFrame(In, ap(clientIP, 5000), ap(serverIP, 80), flagSYN))
	seed(Out, tcpFrame(Out, ap(serverIP, 80), ap(outsideIP, 4000), flagRST))
	seed(Out, echoFrame(Out, serverIP, outsideIP, icmpUnreachable, 1))
	seed(In, echoFrame(In, clientIP, insideIP, icmpEcho, 1))
	seed(Out, arpFrame(arpReply, serverMAC, serverIP, outsideMAC, outsideIP))
	f.Fuzz(func(t *testing.T, at byte, frame []byte) {
		n := newTest(t, func(c *Config) { c.Oracle, c.MaxFlows, c.MaxPending = true, 4, 4 })
		meet(n)
		n.Process(1, In, udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), nil), nil)
		n.Process(1, In, tcpFrame(In, ap(clientIP, 4000), ap(serverIP, 80), flagSYN), nil)
		fixIPChecksum(frame) // or the fuzzer hardly gets past it
		for now := range 3 {
			for _, o := range n.Process(time.Duration(now), Port(at&1), append([]byte(nil), frame...), nil) {
				checkSent(t, n, o)
			}
		}
		n.Tick(time.Hour, n.Announce(time.Minute, nil))
	})
}

func fixIPChecksum(f []byte) {
	if len(f) < etherLen+20 {
		return
	}
	ip := f[etherLen:]
	if header := int(ip[0]&15) * 4; header >= 20 && header <= len(ip) {
		put16(ip[10:], 0)
		put16(ip[10:], checksum(ip[:header], 0))
	}
}

// checkSent holds for whatever leaves the NAT.
func checkSent(t *testing.T, n *NAT, o Output) {
	if MAC(o.Frame[6:12]) != n.ports[o.Port].mac {
		t.Fatalf("sent from %x", o.Frame[6:12])
	}
	if be16(o.Frame[12:]) != etherIPv4 {
		return
	}
	p, drop := parse(o.Frame)
	if drop != none {
		t.Fatalf("sent a packet that is %v", drop)
	}
	if o.Port == Out && toAddr(p.src) != outsideIP && toAddr(p.src) != netip.AddrFrom4([4]byte{}) {
		t.Fatalf("inside address %v leaked", toAddr(p.src))
	}
}
