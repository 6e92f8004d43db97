package nat

import (
	"fmt"
	"time"
)

// Timeouts say how long a flow may be idle. Zero means the default.
type Timeouts struct {
	ICMP           time.Duration // 60 s (RFC 5508)
	UDPOneWay      time.Duration // 30 s: nobody has answered yet
	UDP            time.Duration // 300 s (RFC 4787)
	TCPOpening     time.Duration // 240 s (RFC 5382)
	TCPEstablished time.Duration // 2 h 4 min (RFC 5382)
	TCPClosing     time.Duration // 240 s after both FINs or a RST
}

func (t *Timeouts) fill() error {
	for _, f := range []struct {
		at      *time.Duration
		usually time.Duration
	}{
		{&t.ICMP, time.Minute}, {&t.UDPOneWay, 30 * time.Second}, {&t.UDP, 5 * time.Minute},
		{&t.TCPOpening, 4 * time.Minute}, {&t.TCPEstablished, 124 * time.Minute}, {&t.TCPClosing, 4 * time.Minute},
	} {
		if *f.at < 0 {
			return fmt.Errorf("nat: negative time-out %v", *f.at)
		}
		if *f.at == 0 {
			*f.at = f.usually
		}
	}
	return nil
}

// class is a flow's state as far as its time-out goes. All flows of a class have
// one time-out, so a list in order of use is a list in order of expiry.
type class uint8

const (
	tcpClosing class = iota // from here to tcpOpening: first to go when the table is full
	icmpEchoes
	udpOneWay
	tcpOpening
	udpBothWays
	tcpEstablished
	classes
)

var classNames = [classes]string{"closing", "echo", "one-way", "opening", "both-ways", "established"}

func (c class) String() string { return classNames[c] }

// direction of a packet within its flow.
type direction uint8

const (
	outward direction = iota
	inward
)

type flowKey struct {
	proto      byte
	inside     uint32
	remote     uint32
	insidePort uint16 // the identifier for ICMP
	remotePort uint16 // 0 for ICMP
}

const nobody = int32(-1)

type flow struct {
	key      flowKey
	external uint16
	class    class
	fin      [2]bool // seen, by direction
	answered bool    // SYN+ACK came back
	last     time.Duration
	prev     int32 // in the list of the class
	next     int32
	counters [2]Counter
}

func (f *flow) count(d direction, p *packet) {
	f.counters[d].Packets++
	f.counters[d].Bytes += uint64(len(p.ip))
}

type list struct{ first, last int32 }

// flowTable finds flows from both sides. Its memory is allocated once.
type flowTable struct {
	flows      []flow
	free       []int32
	byKey      map[flowKey]int32
	byExternal [3][]int32 // by protocol, then by outside port
	cursor     [3]uint16
	lists      [classes]list
	timeouts   [classes]time.Duration

	opened, expired, evicted uint64
}

func newFlowTable(size int, t Timeouts) flowTable {
	ft := flowTable{
		flows: make([]flow, size), free: make([]int32, size), byKey: make(map[flowKey]int32, size),
		timeouts: [classes]time.Duration{
			tcpClosing: t.TCPClosing, icmpEchoes: t.ICMP, udpOneWay: t.UDPOneWay,
			tcpOpening: t.TCPOpening, udpBothWays: t.UDP, tcpEstablished: t.TCPEstablished,
		},
	}
	for i := range ft.free {
		ft.free[i] = int32(size - 1 - i)
	}
	for i := range ft.lists {
		ft.lists[i] = list{nobody, nobody}
	}
	for i := range ft.byExternal {
		ft.byExternal[i] = make([]int32, 1<<16)
		for port := range ft.byExternal[i] {
			ft.byExternal[i][port] = nobody
		}
		ft.cursor[i] = lowestPort
	}
	return ft
}

const lowestPort = 1024

func protoIndex(proto byte) int {
	switch proto {
	case protoTCP:
		return 0
	case protoUDP:
		return 1
	}
	return 2
}

func (t *flowTable) find(k flowKey) *flow {
	if i, ok := t.byKey[k]; ok {
		return &t.flows[i]
	}
	return nil
}

// findInbound finds the flow that an arriving packet answers.
func (t *flowTable) findInbound(p *packet) *flow {
	if p.proto == protoICMP {
		return t.findExternal(p.proto, be16(p.l4[4:]), p.src, 0)
	}
	return t.findExternal(p.proto, be16(p.l4[2:]), p.src, be16(p.l4[0:]))
}

// findQuoted finds the flow that sent a packet quoted by an ICMP error.
func (t *flowTable) findQuoted(p packet) *flow {
	if p.proto == protoICMP {
		return t.findExternal(p.proto, be16(p.l4[4:]), p.dst, 0)
	}
	return t.findExternal(p.proto, be16(p.l4[0:]), p.dst, be16(p.l4[2:]))
}

func (t *flowTable) findExternal(proto byte, external uint16, remote uint32, remotePort uint16) *flow {
	i := t.byExternal[protoIndex(proto)][external]
	if i == nobody {
		return nil
	}
	f := &t.flows[i]
	if f.key.remote != remote || f.key.remotePort != remotePort {
		return nil
	}
	return f
}

// open makes a flow, if need be in the place of the oldest one that has no
// established exchange. It returns nil if there is none such.
func (t *flowTable) open(k flowKey, now time.Duration) *flow {
	if len(t.free) == 0 && !t.evict() {
		return nil
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	c := udpOneWay
	switch k.proto {
	case protoTCP:
		c = tcpOpening
	case protoICMP:
		c = icmpEchoes
	}
	t.flows[i] = flow{key: k, external: t.choosePort(k), class: c, last: now}
	t.byKey[k] = i
	t.byExternal[protoIndex(k.proto)][t.flows[i].external] = i
	t.push(i)
	t.opened++
	return &t.flows[i]
}

// choosePort keeps the inside port where it is free. There are more ports than
// flows, so the search ends.
func (t *flowTable) choosePort(k flowKey) uint16 {
	p := protoIndex(k.proto)
	taken := t.byExternal[p]
	if taken[k.insidePort] == nobody && (k.insidePort >= lowestPort || k.proto == protoICMP) {
		return k.insidePort
	}
	for taken[t.cursor[p]] != nobody {
		t.step(p)
	}
	chosen := t.cursor[p]
	t.step(p)
	return chosen
}

func (t *flowTable) step(p int) {
	t.cursor[p]++
	if t.cursor[p] < lowestPort {
		t.cursor[p] = lowestPort
	}
}

// evict gives up one flow without an established exchange: a flood of new flows
// displaces its own kind and never a running connection.
func (t *flowTable) evict() bool {
	for c := tcpClosing; c <= tcpOpening; c++ {
		if i := t.lists[c].first; i != nobody {
			t.remove(i)
			t.evicted++
			return true
		}
	}
	return false
}

// expire forgets at most limit idle flows.
func (t *flowTable) expire(now time.Duration, limit int) {
	for c := range t.lists {
		for limit > 0 {
			i := t.lists[c].first
			if i == nobody || now-t.flows[i].last < t.timeouts[c] {
				break
			}
			t.remove(i)
			t.expired++
			limit--
		}
	}
}

// track moves a flow on: its state by the packet, its place by the time.
func (t *flowTable) track(f *flow, now time.Duration, d direction, p *packet) {
	i := t.byExternal[protoIndex(f.key.proto)][f.external]
	t.unlink(i)
	f.last = now
	f.class = f.nextClass(d, p)
	t.push(i)
}

func (f *flow) nextClass(d direction, p *packet) class {
	switch {
	case f.key.proto == protoTCP:
		return f.nextTCP(d, p.l4[13])
	case f.key.proto == protoUDP && d == inward:
		return udpBothWays
	}
	return f.class
}

// nextTCP follows a connection. A RST shortens its life, and whatever follows
// takes that back, so that a forged RST ends nothing (RFC 7857, section 2.2).
func (f *flow) nextTCP(d direction, flags byte) class {
	switch {
	case flags&flagRST != 0:
		return tcpClosing
	case flags&flagSYN != 0 && flags&flagACK == 0 && d == outward && f.class == tcpClosing:
		f.fin, f.answered = [2]bool{}, false // the ports are used again
		return tcpOpening
	case flags&flagSYN != 0:
		f.answered = f.answered || d == inward && flags&flagACK != 0
		return f.class
	}
	f.fin[d] = f.fin[d] || flags&flagFIN != 0
	switch {
	case f.fin[outward] && f.fin[inward]:
		return tcpClosing
	case f.answered:
		return tcpEstablished
	}
	return f.class
}

func (t *flowTable) remove(i int32) {
	f := &t.flows[i]
	t.unlink(i)
	delete(t.byKey, f.key)
	t.byExternal[protoIndex(f.key.proto)][f.external] = nobody
	t.free = append(t.free, i)
}

func (t *flowTable) push(i int32) {
	f := &t.flows[i]
	l := &t.lists[f.class]
	f.prev, f.next = l.last, nobody
	if l.last == nobody {
		l.first = i
	} else {
		t.flows[l.last].next = i
	}
	l.last = i
}

func (t *flowTable) unlink(i int32) {
	f := &t.flows[i]
	l := &t.lists[f.class]
	if f.prev == nobody {
		l.first = f.next
	} else {
		t.flows[f.prev].next = f.next
	}
	if f.next == nobody {
		l.last = f.prev
	} else {
		t.flows[f.next].prev = f.prev
	}
}
