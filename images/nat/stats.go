package nat

import "net/netip"

// Drop says why a frame was not forwarded.
type Drop uint8

// The reasons.
const (
	none             Drop = iota
	Malformed             // headers that contradict the frame
	NotForUs              // another station's MAC or address
	UnknownProtocol       // neither ARP nor IPv4 with TCP, UDP, ICMP echo or errors
	BadChecksum           // IP header or ICMP error
	Fragment              // fragments are not reassembled
	BadSource             // source address that cannot be at this port
	NoRoute               // no next hop
	TTLExpired            // TTL used up
	NoFlow                // nothing asked for this packet
	NoService             // to the NAT itself, but no echo
	TableFull             // no flow could be given up for a new one
	NeighbourUnknown      // the neighbour did not say its MAC in time
	PendingFull           // too many frames wait for neighbours
	AddressConflict       // another station claims the NAT's address
	TooLong               // longer than the other port's MTU
	drops
)

var dropNames = [drops]string{
	"none", "malformed", "not-for-us", "unknown-protocol", "bad-checksum", "fragment", "bad-source", "no-route",
	"ttl-expired", "no-flow", "no-service", "table-full", "neighbour-unknown", "pending-full", "address-conflict", "too-long",
}

// String names the reason.
func (d Drop) String() string {
	if d < drops {
		return dropNames[d]
	}
	return "unknown"
}

// Drops lists all reasons.
func Drops() []Drop {
	list := make([]Drop, 0, drops-1)
	for d := none + 1; d < drops; d++ {
		list = append(list, d)
	}
	return list
}

// Stats are a NAT's counters since it was made.
type Stats struct {
	Received  [2]uint64 // frames, by port
	Sent      [2]uint64 // frames, by port
	Forwarded [2]uint64 // packets, by the port they arrived at
	Drops     [drops]uint64

	Stamps       uint64 // running number of the last stamped probe
	EchoReplies  uint64
	Errors       uint64 // ICMP errors that the NAT itself sent
	ARPRequests  uint64 // sent
	ARPReplies   uint64 // sent
	FlowsOpened  uint64
	FlowsExpired uint64
	FlowsEvicted uint64 // given up before their time for a new one
	Flows        int    // now
	Pending      int    // frames that wait now
	Neighbours   [2]int // now, by port
}

// Stats returns the counters.
func (n *NAT) Stats() Stats {
	s := n.stats
	s.Stamps = n.stamps
	s.FlowsOpened, s.FlowsExpired, s.FlowsEvicted = n.flows.opened, n.flows.expired, n.flows.evicted
	s.Flows = len(n.flows.byKey)
	s.Pending = len(n.pending.queue)
	for p := range n.ports {
		s.Neighbours[p] = len(n.ports[p].neighbours.list)
	}
	return s
}

// Counter counts packets and their bytes from the IP header on.
type Counter struct{ Packets, Bytes uint64 }

// Flow is one translated flow.
type Flow struct {
	Protocol string // "tcp", "udp" or "icmp"
	State    string
	Inside   netip.AddrPort // for ICMP the port is the identifier
	Remote   netip.AddrPort
	External uint16 // port or identifier that the outside sees
	Out, In  Counter
}

// Flows returns at most limit flows, for each state the most recently used first.
func (n *NAT) Flows(limit int) []Flow {
	var list []Flow
	t := &n.flows
	for c := range t.lists {
		for i := t.lists[c].last; i != nobody && len(list) < limit; i = t.flows[i].prev {
			list = append(list, t.flows[i].export())
		}
	}
	return list
}

func (f *flow) export() Flow {
	names := map[byte]string{protoTCP: "tcp", protoUDP: "udp", protoICMP: "icmp"}
	return Flow{
		Protocol: names[f.key.proto], State: f.class.String(), External: f.external,
		Inside: netip.AddrPortFrom(toAddr(f.key.inside), f.key.insidePort),
		Remote: netip.AddrPortFrom(toAddr(f.key.remote), f.key.remotePort),
		Out:    f.counters[outward], In: f.counters[inward],
	}
}
