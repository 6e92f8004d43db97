package nat

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/stillpoint-ft/stillpoint/proto/probe"
)

func TestUDPThereAndBack(t *testing.T) {
	n := newTest(t, nil)
	meet(n)
	there := look(t, one(t, n.Process(1, In, udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), []byte("request")), nil)))
	if want := (seen{Out, ap(outsideIP, 5000), ap(serverIP, 7000), "request"}); there != want {
		t.Fatalf("outside sees %+v, want %+v", there, want)
	}
	back := look(t, one(t, n.Process(2, Out, udpFrame(Out, ap(serverIP, 7000), there.src, []byte("odd")), nil)))
	if want := (seen{In, ap(serverIP, 7000), ap(clientIP, 5000), "odd"}); back != want {
		t.Fatalf("inside sees %+v, want %+v", back, want)
	}
	flows := n.Flows(10)
	if len(flows) != 1 || flows[0].State != "both-ways" || flows[0].Out.Packets != 1 || flows[0].In.Packets != 1 {
		t.Fatalf("flows %+v", flows)
	}
}

func TestPortsDoNotCollide(t *testing.T) {
	n := newTest(t, nil)
	meet(n)
	used := map[uint16]bool{}
	for i := range 50 {
		src := ap(netip.AddrFrom4([4]byte{10, 1, 0, byte(2 + i)}), 5000)
		s := look(t, one(t, n.Process(1, In, udpFrame(In, src, ap(serverIP, 7000), nil), nil)))
		if used[s.src.Port()] {
			t.Fatalf("outside port %d given twice", s.src.Port())
		}
		used[s.src.Port()] = true
	}
}

func TestEchoThroughAndToItself(t *testing.T) {
	n := newTest(t, nil)
	meet(n)
	s := look(t, one(t, n.Process(1, In, echoFrame(In, clientIP, serverIP, icmpEcho, 9), nil)))
	if s.src != ap(outsideIP, 9) || s.payload != "echo data" {
		t.Fatalf("outside sees %+v", s)
	}
	s = look(t, one(t, n.Process(1, Out, echoFrame(Out, serverIP, outsideIP, icmpEchoReply, 9), nil)))
	if s.dst != ap(clientIP, 9) {
		t.Fatalf("inside sees %+v", s)
	}
	for at, addrs := range map[Port][2]netip.Addr{In: {clientIP, insideIP}, Out: {serverIP, outsideIP}} {
		s = look(t, one(t, n.Process(1, at, echoFrame(at, addrs[0], addrs[1], icmpEcho, 1), nil)))
		if s.port != at || s.src.Addr() != addrs[1] || s.dst.Addr() != addrs[0] {
			t.Fatalf("answer %+v", s)
		}
	}
}

func TestICMPErrorComesBack(t *testing.T) {
	n := newTest(t, nil)
	meet(n)
	sent := one(t, n.Process(1, In, udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), []byte("request")), nil))
	for _, quote := range []int{28, len(sent.Frame) - etherLen} {
		frame := ipFrame(Out, ipLayer(serverIP, outsideIP, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(icmpUnreachable, 3)}, gopacket.Payload(sent.Frame[etherLen:etherLen+quote]))
		out := n.Process(1, Out, frame, nil)
		s := look(t, one(t, out))
		if s.dst.Addr() != clientIP {
			t.Fatalf("inside sees %+v", s)
		}
		inner, ok := quoted([]byte(s.payload))
		if !ok || inner.src != fromAddr(clientIP) || be16(inner.l4) != 5000 || checksum(inner.ip[:20], 0) != 0 {
			t.Fatalf("quoted packet %+v", inner)
		}
	}
}

func TestUnknownNeighbourIsAskedAndItsFramesWait(t *testing.T) {
	n := newTest(t, func(c *Config) { c.Oracle = true })
	var payloads [3][]byte
	for i := range payloads {
		payloads[i] = probe.Packet{Seq: uint64(i)}.Append(nil)
		out := n.Process(1, In, udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), payloads[i]), nil)
		if (len(out) == 1) != (i == 0) {
			t.Fatalf("packet %d: %d frames sent, want one request for the first only", i, len(out))
		}
	}
	if out := n.Tick(askEvery-1, nil); len(out) != 0 {
		t.Fatal("asked again too soon")
	}
	if out := n.Tick(askEvery+1, nil); len(out) != 1 {
		t.Fatalf("%d requests, want one", len(out))
	}
	out := n.Process(2, Out, arpFrame(arpReply, serverMAC, serverIP, outsideMAC, outsideIP), nil)
	if len(out) != 3 || n.Stats().Pending != 0 {
		t.Fatalf("%d frames released, %d still wait", len(out), n.Stats().Pending)
	}
	for i, o := range out {
		p, err := probe.Decode([]byte(look(t, o).payload))
		if err != nil || p.Seq != uint64(i) || p.Stamp != uint64(i)+1 {
			t.Fatalf("frame %d: %+v, %v", i, p, err)
		}
	}
}

func TestSilentNeighbourIsGivenUp(t *testing.T) {
	n := newTest(t, func(c *Config) { c.MaxPending = 8 })
	frame := func() []byte { return udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), nil) }
	n.Process(0, In, frame(), nil)
	n.Process(0, In, frame(), nil)
	dropped(t, n, 0, In, frame(), PendingFull)
	requests := 1
	now := time.Duration(0)
	for ; n.Stats().Pending > 0 && now < time.Minute; now += 100 * time.Millisecond {
		requests += len(n.Tick(now, nil))
	}
	if s := n.Stats(); requests != askTimes || s.Drops[NeighbourUnknown] != 2 || s.Neighbours[Out] != 0 {
		t.Fatalf("%d requests, stats %+v", requests, s)
	}
	if n.Wait() != time.Second {
		t.Fatal("still in a hurry")
	}
}

// scan sends to more neighbours than there are, none of which answers.
func scan(n *NAT, now time.Duration, hosts int) {
	for i := range hosts {
		n.Process(now, In, udpFrame(In, ap(clientIP, 5000), ap(netip.AddrFrom4([4]byte{10, 2, byte(1 + i>>8), byte(i)}), 7), nil), nil)
	}
}

func TestNeighbourTableIsBounded(t *testing.T) {
	n := newTest(t, func(c *Config) {
		c.Out.Prefix = netip.MustParsePrefix("10.2.0.1/16")
		c.MaxPending = mostPending
	})
	scan(n, 0, 3*maxNeighbours)
	s := n.Stats()
	if s.Neighbours[Out] != maxUnknown || s.Pending != maxUnknown || s.Drops[NeighbourUnknown] != 3*maxNeighbours-maxUnknown {
		t.Fatalf("neighbours %d, pending %d, drops %v", s.Neighbours[Out], s.Pending, s.Drops)
	}
}

// TestScanDisplacesNobody: whoever scans a large network takes neither the known
// neighbours from the others, nor the way to get to know a new one.
func TestScanDisplacesNobody(t *testing.T) {
	n := newTest(t, func(c *Config) { c.Out.Prefix = netip.MustParsePrefix("10.2.0.1/16") })
	meet(n)
	for i := range maxNeighbours - maxUnknown - 1 {
		addr := netip.AddrFrom4([4]byte{10, 2, 200, byte(1 + i)})
		n.Process(0, Out, arpFrame(arpRequest, MAC{2, 0, 0, 1, 0, byte(i)}, addr, MAC{}, outsideIP), nil)
	}
	scan(n, 1, 4*maxNeighbours)
	if o := one(t, n.Process(2, In, udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), nil), nil)); MAC(o.Frame[:6]) != serverMAC {
		t.Errorf("sent to %x", o.Frame[:6])
	}
	fresh := netip.MustParseAddr("10.2.0.3")
	if out := n.Process(3, In, udpFrame(In, ap(clientIP, 5000), ap(fresh, 7000), []byte("first")), nil); len(out) != 1 {
		t.Fatalf("%d frames sent, want the question for a new neighbour", len(out))
	}
	s := look(t, one(t, n.Process(4, Out, arpFrame(arpReply, MAC{2, 0, 0, 0, 0, 3}, fresh, outsideMAC, outsideIP), nil)))
	if s.payload != "first" {
		t.Errorf("%+v", s)
	}
}

func TestAnnounce(t *testing.T) {
	n := newTest(t, nil)
	meet(n)
	out := n.Announce(5, nil)
	if len(out) != 4 {
		t.Fatalf("%d frames, want for each port one announcement and one question", len(out))
	}
	for _, o := range []Output{out[0], out[2]} {
		if be32(o.Frame[28:]) != be32(o.Frame[38:]) || be32(o.Frame[28:]) != n.ports[o.Port].addr {
			t.Fatalf("announcement on %v is %x", o.Port, o.Frame)
		}
	}
	// The last known MAC serves meanwhile.
	o := one(t, n.Process(6, In, udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), nil), nil))
	if MAC(o.Frame[:6]) != serverMAC {
		t.Fatalf("sent to %x", o.Frame[:6])
	}
}

func TestOracleStampsBothWaysWithOneCounter(t *testing.T) {
	n := newTest(t, func(c *Config) { c.Oracle = true })
	meet(n)
	n.stamps = 0xfffffffe // the carry into the upper half
	for i := range 4 {
		at, src, dst := In, ap(clientIP, 5000), ap(serverIP, 7000)
		if i%2 == 1 {
			at, src, dst = Out, ap(serverIP, 7000), ap(outsideIP, 5000)
		}
		s := look(t, one(t, n.Process(1, at, udpFrame(at, src, dst, probe.Packet{Stamp: 99}.Append(nil)), nil)))
		if p, _ := probe.Decode([]byte(s.payload)); p.Stamp != 0xffffffff+uint64(i) {
			t.Fatalf("packet %d has stamp %#x", i, p.Stamp)
		}
	}
	look(t, one(t, n.Process(1, In, udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), []byte("no probe")), nil)))
	if n.Stats().Stamps != 0x100000002 {
		t.Fatalf("stamps %#x", n.Stats().Stamps)
	}
}

func TestUDPWithoutChecksumStaysWithout(t *testing.T) {
	n := newTest(t, func(c *Config) { c.Oracle = true })
	meet(n)
	frame := udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), probe.Packet{}.Append(nil))
	put16(frame[etherLen+20+6:], 0)
	if o := one(t, n.Process(1, In, frame, nil)); be16(o.Frame[etherLen+20+6:]) != 0 {
		t.Fatal("a checksum appeared")
	}
}

func TestWhatIsDropped(t *testing.T) {
	change := func(f []byte, at int, v byte) []byte { f[at] = v; return f }
	fixIP := func(f []byte) []byte {
		put16(f[etherLen+10:], 0)
		put16(f[etherLen+10:], checksum(f[etherLen:etherLen+20], 0))
		return f
	}
	udp := func() []byte { return udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), nil) }
	answer := func(src, dst netip.Addr) []byte { return udpFrame(Out, ap(src, 7000), ap(dst, 5000), nil) }
	to := func(dst string) []byte {
		return udpFrame(In, ap(clientIP, 5000), ap(netip.MustParseAddr(dst), 1), nil)
	}
	for name, c := range map[string]struct {
		at    Port
		frame []byte
		why   Drop
	}{
		"empty":                {In, nil, Malformed},
		"other MAC":            {In, change(udp(), 5, 99), NotForUs},
		"IPv6":                 {In, change(change(udp(), 12, 0x86), 13, 0xdd), UnknownProtocol},
		"cut":                  {In, udp()[:etherLen+27], Malformed},
		"header checksum":      {In, change(udp(), etherLen+10, 0xee), BadChecksum},
		"fragment":             {In, fixIP(change(udp(), etherLen+6, 0x20)), Fragment},
		"GRE":                  {In, fixIP(change(udp(), etherLen+9, 47)), UnknownProtocol},
		"UDP too long":         {In, change(udp(), etherLen+24, 9), Malformed},
		"foreign source":       {In, udpFrame(In, ap(serverIP, 1), ap(serverIP, 1), nil), BadSource},
		"multicast":            {In, to("224.0.0.1"), NoRoute},
		"inside to inside":     {In, to("10.1.0.9"), NoRoute},
		"outside's broadcast":  {In, to("10.2.0.255"), NoRoute},
		"service of the NAT":   {In, to("10.1.0.1"), NoService},
		"middle of connection": {In, tcpFrame(In, ap(clientIP, 1), ap(serverIP, 2), flagACK), NoFlow},
		"unasked":              {Out, answer(serverIP, outsideIP), NoFlow},
		"to the inside":        {Out, answer(serverIP, clientIP), NotForUs},
		"inside from outside":  {Out, answer(clientIP, outsideIP), BadSource},
		"ARP by our address":   {Out, arpFrame(arpRequest, serverMAC, outsideIP, MAC{}, serverIP), AddressConflict},
		"short ARP":            {Out, arpFrame(arpRequest, serverMAC, serverIP, MAC{}, outsideIP)[:30], Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTest(t, nil)
			meet(n)
			dropped(t, n, 1, c.at, c.frame, c.why)
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no address":       func(c *Config) { c.In.Prefix = netip.Prefix{} },
		"IPv6":             func(c *Config) { c.Out.Prefix = netip.MustParsePrefix("fd00::1/64") },
		"no MAC":           func(c *Config) { c.In.MAC = MAC{} },
		"group MAC":        func(c *Config) { c.In.MAC = broadcastMAC },
		"overlap":          func(c *Config) { c.Out.Prefix = netip.MustParsePrefix("10.1.0.9/16") },
		"gateway far":      func(c *Config) { c.Gateway = netip.MustParseAddr("10.3.0.1") },
		"too many flows":   func(c *Config) { c.MaxFlows = mostFlows + 1 },
		"negative timeout": func(c *Config) { c.Timeouts.UDP = -1 },
	} {
		c := testConfig()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFastPathDoesNotAllocate(t *testing.T) {
	n := newTest(t, func(c *Config) { c.Oracle = true })
	meet(n)
	original := udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), probe.Packet{}.Append(nil))
	frame, out := make([]byte, len(original)), make([]Output, 0, 8)
	allocs := testing.AllocsPerRun(1000, func() {
		copy(frame, original)
		out = n.Process(1, In, frame, out[:0])
	})
	if allocs != 0 || len(out) != 1 {
		t.Fatalf("%v allocations per packet, %d frames", allocs, len(out))
	}
}

func TestIncrementalChecksumEqualsComputed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		b := make([]byte, 8)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0] |= 1 // never all zero, as no header is
		sum, old, to := checksum(b, 0), be32(b[4:]), r.Uint32()
		put32(b[4:], to)
		if got, want := update32(sum, old, to), checksum(b, 0); got != want {
			t.Fatalf("%#x, want %#x", got, want)
		}
	}
}

func BenchmarkForward(b *testing.B) {
	n := newTest(b, nil)
	meet(n)
	original := udpFrame(In, ap(clientIP, 5000), ap(serverIP, 7000), make([]byte, 300))
	frame, out := make([]byte, len(original)), make([]Output, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		copy(frame, original)
		out = n.Process(1, In, frame, out[:0])
	}
}
