// Package nat is a stateful source NAT for IPv4: the application that
// Stillpoint's demo guest runs and that survives the death of its host.
//
// The core is pure. It reads and returns raw Ethernet frames and is told what
// time it is; it holds no clock, goroutine or I/O. A forwarded frame is changed
// where it lies and costs no allocation. One goroutine owns a NAT.
//
// Hosts behind port In share the address of port Out. TCP, UDP and ICMP echo are
// translated by address and port (RFC 3022, RFC 5382, RFC 5508: mappings and
// filters depend on address and port, and a port is preserved where it is free),
// checksums are updated incrementally (RFC 1624), fragments are dropped.
package nat

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Port is one of the two ports of a NAT.
type Port uint8

// The ports.
const (
	In  Port = 0 // the hosts whose address is hidden
	Out Port = 1 // the rest of the world
)

// String names the port.
func (p Port) String() string {
	if p == In {
		return "in"
	}
	return "out"
}

// MAC is an Ethernet address.
type MAC [6]byte

// PortConfig describes one port.
type PortConfig struct {
	MAC    MAC
	Prefix netip.Prefix // own address with the prefix length of the network
	MTU    int          // longest IP packet that the port sends, in bytes; default 1500
}

// Config describes a NAT. Zero limits and time-outs mean the defaults.
type Config struct {
	In, Out    PortConfig
	Gateway    netip.Addr // next hop beyond Out's network; invalid = none
	Oracle     bool       // stamp probe packets (package probe)
	MaxFlows   int        // default 4096, at most 60000
	MaxPending int        // frames that wait for a neighbour's MAC, default 64
	Timeouts   Timeouts
}

const (
	defaultFlows   = 4096
	mostFlows      = 60000 // fewer than ports, so that a free port always exists
	defaultPending = 64
	mostPending    = 4096
	leastMTU       = 68 // RFC 791
	defaultMTU     = 1500
)

// Output is a frame to send. Frame is either the frame that was given to
// Process, changed in place, or a buffer of the NAT; both are valid until the
// next call of a method.
type Output struct {
	Port  Port
	Frame []byte
}

// port is what the NAT knows about one of its ports.
type port struct {
	mac        MAC
	addr       uint32
	mask       uint32
	mtu        int
	neighbours neighbours
}

func (p *port) holds(addr uint32) bool { return addr&p.mask == p.addr&p.mask }

// usable says whether addr can belong to a host of the port's network.
func (p *port) usable(addr uint32) bool {
	broadcast := p.addr | ^p.mask
	network := p.addr & p.mask
	return p.holds(addr) && addr != p.addr && (p.mask >= 0xfffffffe || addr != broadcast && addr != network)
}

// NAT is the application's whole state. It is not safe for concurrent use.
type NAT struct {
	ports   [2]port
	gateway uint32 // 0 = none
	oracle  bool
	stamps  uint64
	flows   flowTable
	pending pendingQueue
	stats   Stats
	budget  errorBudget
	scratch [][arpFrameLen]byte // frames made during the present call
	// errorFrame is the one ICMP error that a call may make.
	errorFrame [etherLen + 20 + icmpHeader + mostQuoted]byte
	now        time.Duration
}

// New makes a NAT without flows and neighbours.
func New(c Config) (*NAT, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	n := &NAT{oracle: c.Oracle, budget: errorBudget{tokens: errorBurst}, flows: newFlowTable(c.MaxFlows, c.Timeouts), pending: newPendingQueue(c.MaxPending)}
	for i, pc := range []PortConfig{c.In, c.Out} {
		n.ports[i] = newPort(pc)
	}
	if c.Gateway.IsValid() {
		n.gateway = fromAddr(c.Gateway)
		if !n.ports[Out].usable(n.gateway) {
			return nil, fmt.Errorf("nat: gateway %v is no host of the outside network %v", c.Gateway, c.Out.Prefix)
		}
	}
	if n.ports[In].holds(n.ports[Out].addr) || n.ports[Out].holds(n.ports[In].addr) {
		return nil, fmt.Errorf("nat: networks %v and %v overlap", c.In.Prefix, c.Out.Prefix)
	}
	return n, nil
}

func (c *Config) fill() error {
	for name, p := range map[string]PortConfig{"in": c.In, "out": c.Out} {
		if !p.Prefix.IsValid() || !p.Prefix.Addr().Is4() || p.Prefix.Bits() == 0 {
			return fmt.Errorf("nat: port %s: address %v is not an IPv4 address with a prefix length", name, p.Prefix)
		}
		if p.MAC == (MAC{}) || p.MAC[0]&1 != 0 {
			return fmt.Errorf("nat: port %s: MAC %x is not one station's", name, p.MAC)
		}
		if p.MTU != 0 && p.MTU < leastMTU {
			return fmt.Errorf("nat: port %s: MTU %d is less than IPv4's %d", name, p.MTU, leastMTU)
		}
	}
	if c.Gateway.IsValid() && !c.Gateway.Is4() {
		return errors.New("nat: gateway is not an IPv4 address")
	}
	if c.MaxFlows == 0 {
		c.MaxFlows = defaultFlows
	}
	if c.MaxPending == 0 {
		c.MaxPending = defaultPending
	}
	if c.MaxFlows < 0 || c.MaxFlows > mostFlows || c.MaxPending < 0 || c.MaxPending > mostPending {
		return fmt.Errorf("nat: limits of %d flows and %d waiting frames are out of range", c.MaxFlows, c.MaxPending)
	}
	return c.Timeouts.fill()
}

func newPort(c PortConfig) port {
	return port{
		mac:        c.MAC,
		addr:       fromAddr(c.Prefix.Addr()),
		mask:       ^uint32(0) << (32 - c.Prefix.Bits()),
		mtu:        cmp.Or(c.MTU, defaultMTU),
		neighbours: newNeighbours(),
	}
}

// Process takes one frame that arrived at a port and appends what is to be sent
// to out. The frame is changed in place where it is forwarded or answered. Now
// is a monotonic time of the caller's choice. No frame, however malformed,
// makes it panic.
func (n *NAT) Process(now time.Duration, from Port, frame []byte, out []Output) []Output {
	n.begin(now)
	n.flows.expire(now, 4)
	n.stats.Received[from&1]++
	before := len(out)
	out, drop := n.dispatch(from&1, frame, out)
	if drop != none {
		n.stats.Drops[drop]++
	}
	n.count(out[before:])
	return out
}

// Tick does what time alone makes due: it asks again for neighbours that did not
// answer, gives up on silent ones and forgets idle flows. Call it about as often
// as Wait says.
func (n *NAT) Tick(now time.Duration, out []Output) []Output {
	n.begin(now)
	n.flows.expire(now, 256)
	before := len(out)
	for p := range n.ports {
		out = n.askAgain(Port(p), out)
	}
	n.count(out[before:])
	return out
}

// Wait says how long the caller may let pass until the next Tick.
func (n *NAT) Wait() time.Duration {
	if n.ports[In].neighbours.asking+n.ports[Out].neighbours.asking > 0 {
		return 100 * time.Millisecond
	}
	return time.Second
}

// Announce is for the moment after a takeover: it says on both ports where the
// NAT's addresses are now (gratuitous ARP) and asks all known neighbours anew,
// while their last known MACs stay in use.
func (n *NAT) Announce(now time.Duration, out []Output) []Output {
	n.begin(now)
	before := len(out)
	for p := range n.ports {
		out = append(out, n.arpRequest(Port(p), broadcastMAC, n.ports[p].addr))
		out = n.askEveryone(Port(p), out)
	}
	n.count(out[before:])
	return out
}

func (n *NAT) begin(now time.Duration) {
	n.now = now
	n.scratch = n.scratch[:0]
}

func (n *NAT) count(sent []Output) {
	for _, o := range sent {
		n.stats.Sent[o.Port]++
	}
}

func (n *NAT) dispatch(from Port, frame []byte, out []Output) ([]Output, Drop) {
	if len(frame) < etherLen {
		return out, Malformed
	}
	dst := MAC(frame[0:6])
	if dst != n.ports[from].mac && dst != broadcastMAC {
		return out, NotForUs
	}
	switch be16(frame[12:]) {
	case etherARP:
		return n.arp(from, frame, out)
	case etherIPv4:
		if dst == broadcastMAC {
			return out, NotForUs
		}
		return n.ipv4(from, frame, out)
	}
	return out, UnknownProtocol
}

func (n *NAT) ipv4(from Port, frame []byte, out []Output) ([]Output, Drop) {
	p, drop := parse(frame)
	if drop != none {
		return out, drop
	}
	if from == In {
		return n.outbound(&p, out)
	}
	return n.inbound(&p, out)
}
