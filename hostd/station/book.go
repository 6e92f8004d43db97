package station

import (
	"encoding/binary"
	"net/netip"
	"sync"
)

const vlanTag = 4

// addressesPerPort bounds the book, and the list of stations beside it: the guest is
// not trusted. Whom it has spoken for least recently makes room.
const addressesPerPort = 64

// Router says whether an IPv6 address is a router's, as the guest has said.
type Router uint8

// What the guest has said.
const (
	RouterUnknown Router = iota
	NoRouter
	IsRouter
)

// Tags are the VLAN tags of a frame, outermost first: its type (0x8100, 0x88a8) in
// the upper half, the VLAN's number in the lower; 0 is none.
type Tags [2]uint32

// Address is one address of the guest on one of its ports.
type Address struct {
	Port int
	// Addr is not valid where only the MAC address is known.
	Addr   netip.Addr
	MAC    [6]byte // all zero for the port's own
	Tags   Tags
	Router Router
}

// Book keeps the addresses that the guest has shown to be its own on one port, and the
// stations, by which its frames are sent, that have none. All methods may be called
// concurrently.
type Book struct {
	mu              sync.Mutex
	own             [6]byte
	known, stations []noted
	clock           uint64
	last            Address // the station that spoke last
}

// NewBook of a port with its own MAC address, for what its guest is known to have.
func NewBook(own [6]byte, known ...Address) *Book {
	b := &Book{own: own}
	b.Replace(known)
	return b
}

type noted struct {
	Address
	used uint64
}

// claim is what an ARP frame or a neighbour message says: this address is there.
type claim struct {
	addr   netip.Addr
	mac    [6]byte
	router Router
}

// untag finds the tags of a frame, its type and what follows.
func untag(frame []byte) (tags Tags, kind uint16, body []byte) {
	at := 12
	for i := 0; ; i++ {
		if len(frame) < at+2 {
			return tags, 0, nil
		}
		kind = binary.BigEndian.Uint16(frame[at:])
		if kind != 0x8100 && kind != 0x88a8 && kind != 0x9100 {
			return tags, kind, frame[at+2:]
		}
		if i == len(tags) || len(frame) < at+4 {
			return tags, 0, nil
		}
		tags[i] = uint32(kind)<<16 | uint32(binary.BigEndian.Uint16(frame[at+2:])&0xfff)
		at += vlanTag
	}
}

// claimed reads who says to have an address: the sender of an ARP frame (RFC 826),
// the target of a neighbour advertisement and the sender of a router advertisement
// (RFC 4861).
func claimed(frame []byte, kind uint16, body []byte) (c claim, ok bool) {
	switch {
	case kind == 0x0806 && len(body) >= 28 && binary.BigEndian.Uint16(body[2:]) == 0x0800:
		c = claim{addr: netip.AddrFrom4([4]byte(body[14:18])), mac: [6]byte(body[8:14])}
	case kind == 0x86dd && len(body) >= 64 && body[6] == 58 && body[40] == 136:
		c = claim{addr: netip.AddrFrom16([16]byte(body[48:64])), mac: [6]byte(frame[6:12]), router: NoRouter}
		if body[44]&0x80 != 0 {
			c.router = IsRouter
		}
		if len(body) >= 72 && body[64] == 2 && body[65] == 1 { // the target's link-layer address
			c.mac = [6]byte(body[66:72])
		}
	case kind == 0x86dd && len(body) >= 56 && body[6] == 58 && body[40] == 134:
		c = claim{addr: netip.AddrFrom16([16]byte(body[8:24])), mac: [6]byte(frame[6:12]), router: IsRouter}
	default:
		return c, false
	}
	single := c.mac[0]&1 == 0 && c.mac != [6]byte{}
	return c, single && c.addr.IsValid() && !c.addr.IsUnspecified() && !c.addr.IsMulticast()
}

// Snoop learns from a frame of the guest, which begins with a whole Ethernet header.
func (b *Book) Snoop(frame []byte) {
	tags, kind, body := untag(frame)
	b.mu.Lock()
	defer b.mu.Unlock()
	if station := (Address{MAC: [6]byte(frame[6:12]), Tags: tags}); station != b.last && station.MAC[0]&1 == 0 {
		b.last = station
		b.stations = b.note(b.stations, station)
	}
	if c, ok := claimed(frame, kind, body); ok {
		b.known = b.note(b.known, Address{Addr: c.addr, MAC: c.mac, Tags: tags, Router: c.router})
	}
}

// Hear learns from such a frame of the network: what another says to have is the guest's
// no longer, until the guest says so again, and neither is a station that is there.
func (b *Book) Hear(frame []byte) {
	mac := [6]byte(frame[6:12])
	tags, kind, body := untag(frame)
	b.mu.Lock()
	defer b.mu.Unlock()
	if mac != b.own {
		b.moved(mac, tags)
	}
	if kind != 0x0806 && kind != 0x86dd {
		return
	}
	if c, ok := claimed(frame, kind, body); ok && c.mac != b.own {
		b.known = remove(b.known, func(a Address) bool { return a.Addr == c.addr && a.Tags == tags })
	}
}

// moved: a station is in the network, and its addresses with it.
func (b *Book) moved(mac [6]byte, tags Tags) {
	there := func(a Address) bool { return a.MAC == mac && a.Tags == tags }
	b.stations, b.known = remove(b.stations, there), remove(b.known, there)
	if b.last == (Address{MAC: mac, Tags: tags}) {
		b.last = Address{}
	}
}

func (b *Book) macOf(a Address) [6]byte {
	if a.MAC == ([6]byte{}) {
		return b.own
	}
	return a.MAC
}

func remove(all []noted, gone func(Address) bool) []noted {
	for i := 0; i < len(all); i++ {
		if gone(all[i].Address) {
			all = append(all[:i], all[i+1:]...)
			i--
		}
	}
	return all
}

// note writes an address down. An IP address is at one station of a VLAN.
func (b *Book) note(all []noted, a Address) []noted {
	b.clock++
	oldest := 0
	for i := range all {
		n := &all[i]
		if n.Tags == a.Tags && n.Addr == a.Addr && (a.Addr.IsValid() || n.MAC == a.MAC) {
			if a.Router == RouterUnknown {
				a.Router = n.Router
			}
			n.Address, n.used = a, b.clock
			return all
		}
		if n.used < all[oldest].used {
			oldest = i
		}
	}
	if len(all) < addressesPerPort {
		return append(all, noted{a, b.clock})
	}
	all[oldest] = noted{a, b.clock}
	return all
}

// List is what is to be announced of a port: addresses, then the stations that have none.
func (b *Book) List(port int) (all []Address) {
	b.mu.Lock()
	defer b.mu.Unlock()
	covered := func(mac [6]byte, tags Tags) bool {
		for _, n := range b.known {
			if n.Tags == tags && b.macOf(n.Address) == mac {
				return true
			}
		}
		return false
	}
	for _, n := range b.known {
		n.Port = port
		all = append(all, n.Address)
	}
	for _, n := range b.stations {
		if !covered(n.MAC, n.Tags) {
			n.Port = port
			all = append(all, n.Address)
		}
	}
	return all
}

// Replace forgets everything and writes down what another host has seen.
func (b *Book) Replace(all []Address) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known, b.stations, b.last = nil, nil, Address{}
	for _, a := range all {
		a.Port = 0
		switch {
		case a.Addr.IsValid() && !a.Addr.IsUnspecified() && !a.Addr.IsMulticast():
			b.known = b.note(b.known, a)
		case !a.Addr.IsValid():
			b.stations = b.note(b.stations, a)
		}
	}
}
