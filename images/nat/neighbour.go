package nat

import "time"

const (
	arpFrameLen = etherLen + 28
	arpRequest  = 1
	arpReply    = 2

	maxNeighbours  = 256              // per port
	maxUnknown     = 128              // of these, such as have never answered
	neighbourFresh = 60 * time.Second // then it is asked again, while its MAC stays in use
	askEvery       = 500 * time.Millisecond
	askTimes       = 6
)

var broadcastMAC = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// neighbour is a station of a port's network.
type neighbour struct {
	addr  uint32
	mac   MAC
	known bool // mac is valid
	asks  int  // unanswered requests; 0 = none is out
	asked time.Duration
	seen  time.Duration // when it last said its MAC
	used  time.Duration
	added time.Duration
}

// neighbours is one port's table, bounded by maxNeighbours. Whoever scans the
// network displaces entries of that scan, and no neighbour that has answered.
type neighbours struct {
	list    []neighbour
	at      map[uint32]int // address to index in list
	asking  int            // entries with a request out
	unknown int            // entries that have never answered
}

func newNeighbours() neighbours {
	return neighbours{list: make([]neighbour, 0, maxNeighbours), at: make(map[uint32]int, maxNeighbours)}
}

func (t *neighbours) find(addr uint32) *neighbour {
	if i, ok := t.at[addr]; ok {
		return &t.list[i]
	}
	return nil
}

// add makes an entry. Where there is no room it takes the place of the one that
// has waited longest for its first answer, or has been idle longest.
func (t *neighbours) add(addr uint32, now time.Duration) (nb *neighbour, displaced uint32) {
	switch {
	case t.unknown == maxUnknown:
		displaced = t.displace(func(nb *neighbour) bool { return !nb.known })
	case len(t.list) == maxNeighbours:
		displaced = t.displace(func(nb *neighbour) bool { return nb.known })
	}
	t.at[addr] = len(t.list)
	t.list = append(t.list, neighbour{addr: addr, used: now, added: now})
	t.unknown++
	return &t.list[len(t.list)-1], displaced
}

// displace removes the oldest of the entries that may go: by the time of its first
// request while it is unknown, else by that of its last use.
func (t *neighbours) displace(may func(*neighbour) bool) (addr uint32) {
	oldest := -1
	for i := range t.list {
		if may(&t.list[i]) && (oldest < 0 || t.list[i].age() < t.list[oldest].age()) {
			oldest = i
		}
	}
	addr = t.list[oldest].addr
	t.remove(oldest)
	return addr
}

func (nb *neighbour) age() time.Duration {
	if nb.known {
		return nb.used
	}
	return nb.added
}

func (t *neighbours) remove(i int) {
	t.settle(&t.list[i])
	if !t.list[i].known {
		t.unknown--
	}
	delete(t.at, t.list[i].addr)
	last := len(t.list) - 1
	if i != last {
		t.list[i] = t.list[last]
		t.at[t.list[i].addr] = i
	}
	t.list = t.list[:last]
}

// settle ends the asking for a neighbour.
func (t *neighbours) settle(nb *neighbour) {
	if nb.asks > 0 {
		nb.asks = 0
		t.asking--
	}
}

// resolve finds a neighbour's MAC, asking for it where it is unknown or old.
func (n *NAT) resolve(at Port, hop uint32, out []Output) (MAC, bool, []Output) {
	t := &n.ports[at].neighbours
	nb := t.find(hop)
	if nb == nil {
		nb = n.addNeighbour(at, hop)
	}
	nb.used = n.now
	if nb.asks == 0 && (!nb.known || n.now-nb.seen >= neighbourFresh) {
		out = append(out, n.ask(at, nb))
	}
	return nb.mac, nb.known, out
}

// addNeighbour makes an entry. What waited for one that had to make room is lost.
func (n *NAT) addNeighbour(at Port, addr uint32) *neighbour {
	nb, displaced := n.ports[at].neighbours.add(addr, n.now)
	if displaced != 0 {
		n.stats.Drops[NeighbourUnknown] += uint64(n.pending.drop(at, displaced))
	}
	return nb
}

func (n *NAT) ask(at Port, nb *neighbour) Output {
	if nb.asks == 0 {
		n.ports[at].neighbours.asking++
	}
	nb.asks++
	nb.asked = n.now
	return n.arpRequest(at, broadcastMAC, nb.addr)
}

// askAgain repeats requests that are due and gives up on who never answered.
func (n *NAT) askAgain(at Port, out []Output) []Output {
	t := &n.ports[at].neighbours
	if t.asking == 0 {
		return out
	}
	for i := len(t.list) - 1; i >= 0; i-- { // backwards: remove fills a hole from the end
		nb := &t.list[i]
		if nb.asks == 0 || n.now-nb.asked < askEvery {
			continue
		}
		if nb.asks < askTimes {
			out = append(out, n.ask(at, nb))
			continue
		}
		n.stats.Drops[NeighbourUnknown] += uint64(n.pending.drop(at, nb.addr))
		t.remove(i)
	}
	return out
}

func (n *NAT) askEveryone(at Port, out []Output) []Output {
	t := &n.ports[at].neighbours
	for i := range t.list {
		t.settle(&t.list[i])
		out = append(out, n.ask(at, &t.list[i]))
	}
	return out
}

// arpRequest makes a request in a buffer of the NAT. Asking for one's own
// address is how an address is announced.
func (n *NAT) arpRequest(at Port, to MAC, target uint32) Output {
	var f [arpFrameLen]byte
	n.stats.ARPRequests++
	n.fillARP(f[:], at, arpRequest, to, MAC{}, target)
	n.scratch = append(n.scratch, f)
	return Output{Port: at, Frame: n.scratch[len(n.scratch)-1][:]}
}

// fillARP writes a packet of RFC 826 for Ethernet and IPv4.
func (n *NAT) fillARP(f []byte, at Port, op uint16, to, targetMAC MAC, target uint32) {
	own := &n.ports[at]
	copy(f[0:6], to[:])
	copy(f[6:12], own.mac[:])
	put16(f[12:], etherARP)
	put16(f[14:], 1) // Ethernet
	put16(f[16:], etherIPv4)
	f[18], f[19] = 6, 4
	put16(f[20:], op)
	copy(f[22:28], own.mac[:])
	put32(f[28:], own.addr)
	copy(f[32:38], targetMAC[:])
	put32(f[38:], target)
}

// arp answers requests for the port's address and learns who is where: from
// requests to the NAT, and from answers about neighbours it knows or asked for.
func (n *NAT) arp(at Port, frame []byte, out []Output) ([]Output, Drop) {
	if len(frame) < arpFrameLen {
		return out, Malformed
	}
	f := frame[:arpFrameLen]
	if be16(f[14:]) != 1 || be16(f[16:]) != etherIPv4 || f[18] != 6 || f[19] != 4 {
		return out, Malformed
	}
	own, op := &n.ports[at], be16(f[20:])
	mac, addr, target := MAC(f[22:28]), be32(f[28:]), be32(f[38:])
	if addr == own.addr && mac != own.mac {
		return out, AddressConflict
	}
	valid := own.usable(addr) && mac[0]&1 == 0 && mac != MAC{}
	forUs := op == arpRequest && target == own.addr
	if !valid && !(forUs && addr == 0) { // address 0: somebody probes whether ours is taken
		return out, BadSource
	}
	if forUs {
		n.stats.ARPReplies++
		n.fillARP(f, at, arpReply, mac, mac, addr)
		out = append(out, Output{Port: at, Frame: f})
	}
	if valid {
		out = n.learn(at, addr, mac, forUs, out)
	}
	return out, none
}

// learn notes a neighbour's MAC and lets go of the frames that waited for it.
func (n *NAT) learn(at Port, addr uint32, mac MAC, add bool, out []Output) []Output {
	t := &n.ports[at].neighbours
	nb := t.find(addr)
	if nb == nil && add {
		nb = n.addNeighbour(at, addr)
	}
	if nb == nil {
		return out
	}
	if !nb.known {
		t.unknown--
	}
	nb.mac, nb.known, nb.seen = mac, true, n.now
	t.settle(nb)
	return n.release(at, addr, mac, out)
}
