package gate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

const addressesPerPort = 64

// addressBook keeps the addresses that the guest has shown to be its own on
// one port. The guest is not trusted: the book is bounded.
type addressBook struct {
	sync.Mutex
	known []netip.Addr
}

// snoop learns from what the guest says of itself: the sender of its ARP
// frames (RFC 826), the target of its neighbour advertisements (RFC 4861).
func (b *addressBook) snoop(mac [6]byte, frame []byte) {
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0806:
		if len(frame) >= 42 && bytes.Equal(frame[22:28], mac[:]) {
			b.add(netip.AddrFrom4([4]byte(frame[28:32])))
		}
	case 0x86dd:
		const icmp, advertisement = 54, 136
		if len(frame) >= 78 && frame[20] == 58 && frame[icmp] == advertisement {
			b.add(netip.AddrFrom16([16]byte(frame[62:78])))
		}
	}
}

func (b *addressBook) add(a netip.Addr) {
	if a.IsUnspecified() || a.IsMulticast() {
		return
	}
	b.Lock()
	defer b.Unlock()
	for _, k := range b.known {
		if k == a {
			return
		}
	}
	if len(b.known) < addressesPerPort {
		b.known = append(b.known, a)
	}
}

func (b *addressBook) list() []netip.Addr {
	b.Lock()
	defer b.Unlock()
	return append([]netip.Addr(nil), b.known...)
}

// Address is one address of the guest on one of its ports.
type Address struct {
	Port int
	Addr netip.Addr
}

// Addresses lists what the specification tells and what the guest has shown.
func (g *Gate) Addresses() []Address {
	var all []Address
	for i, p := range g.ports {
		for _, a := range p.learned.list() {
			all = append(all, Address{i, a})
		}
	}
	return all
}

// Learn adds addresses that another host has seen.
func (g *Gate) Learn(addresses []Address) {
	for _, a := range addresses {
		if a.Port >= 0 && a.Port < len(g.ports) {
			g.ports[a.Port].learned.add(a.Addr)
		}
	}
}

// Announce tells the network that the guest's addresses are reached here:
// gratuitous ARP (RFC 5227) and unsolicited neighbour advertisements
// (RFC 4861 7.2.6), or RARP where no address is known, as QEMU itself does
// after a migration.
func (g *Gate) Announce() error { return g.announce(func() bool { return true }) }

// AnnounceAgain is Announce as long as output passes. Where it is held a standby may
// have taken over, and the network must not be drawn away from it.
func (g *Gate) AnnounceAgain() error {
	return g.announce(func() bool { return g.out.mode == passing })
}

// announce where it is due, asked with the output's lock held.
func (g *Gate) announce(due func() bool) error {
	for i, p := range g.ports {
		frames, err := announcements(p.MAC, p.learned.list())
		if err != nil {
			return fmt.Errorf("announce port %s: %w", p.Name, err)
		}
		g.out.Lock()
		for _, f := range frames {
			if !due() {
				break
			}
			g.transmit(i, time.Time{}, &g.stats.announced, append(make([]byte, vnetHeader), f...))
		}
		g.out.Unlock()
	}
	return nil
}

func announcements(mac [6]byte, addresses []netip.Addr) ([][]byte, error) {
	if len(addresses) == 0 {
		f, err := rarp(mac)
		return [][]byte{f}, err
	}
	var frames [][]byte
	for _, a := range addresses {
		build := gratuitousARP
		if a.Is6() {
			build = neighbourAdvertisement
		}
		f, err := build(mac, a)
		if err != nil {
			return nil, err
		}
		frames = append(frames, f)
	}
	return frames, nil
}

func gratuitousARP(mac [6]byte, a netip.Addr) ([]byte, error) {
	ip := a.AsSlice()
	return serialize(ethernet(mac, layers.EthernetBroadcast, layers.EthernetTypeARP),
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
			HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: mac[:], SourceProtAddress: ip,
			DstHwAddress: make([]byte, 6), DstProtAddress: ip})
}

func neighbourAdvertisement(mac [6]byte, a netip.Addr) ([]byte, error) {
	all := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: 255,
		SrcIP: a.AsSlice(), DstIP: net.IPv6linklocalallnodes}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	const override = 0x20
	return serialize(ethernet(mac, all, layers.EthernetTypeIPv6), ip, icmp,
		&layers.ICMPv6NeighborAdvertisement{Flags: override, TargetAddress: a.AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac[:]}}})
}

// rarp is a reverse ARP request (RFC 903): it moves the bridges' tables
// without naming an address.
func rarp(mac [6]byte) ([]byte, error) {
	const requestReverse = 3
	return serialize(ethernet(mac, layers.EthernetBroadcast, layers.EthernetType(0x8035)),
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
			HwAddressSize: 6, ProtAddressSize: 4, Operation: requestReverse,
			SourceHwAddress: mac[:], SourceProtAddress: make([]byte, 4),
			DstHwAddress: mac[:], DstProtAddress: make([]byte, 4)})
}

func ethernet(mac [6]byte, to net.HardwareAddr, t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: mac[:], DstMAC: to, EthernetType: t}
}

func serialize(parts ...gopacket.SerializableLayer) ([]byte, error) {
	b := gopacket.NewSerializeBuffer()
	o := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, o, parts...); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
