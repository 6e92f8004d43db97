package station

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Announcements are frames that tell the network where a port's addresses are reached:
// gratuitous ARP (RFC 5227) and unsolicited neighbour advertisements (RFC 4861 7.2.6), or
// RARP where no address is known. The port's own MAC address is always among them.
func Announcements(own [6]byte, addresses []Address) (frames [][]byte, err error) {
	spoken := false
	for _, a := range addresses {
		if a.MAC == ([6]byte{}) {
			a.MAC = own
		}
		spoken = spoken || a.MAC == own && a.Tags == Tags{}
		f, err := announcement(a)
		if err != nil {
			return nil, err
		}
		frames = append(frames, f)
	}
	if !spoken {
		f, err := rarp(own)
		if err != nil {
			return nil, err
		}
		frames = append(frames, f)
	}
	return frames, nil
}

func announcement(a Address) (f []byte, err error) {
	switch {
	case !a.Addr.IsValid():
		f, err = rarp(a.MAC)
	case a.Addr.Is6():
		f, err = neighbourAdvertisement(a.MAC, a.Addr, a.Router)
	default:
		f, err = gratuitousARP(a.MAC, a.Addr)
	}
	return tagged(f, a.Tags), err
}

// tagged puts tags behind the MAC addresses.
func tagged(f []byte, tags Tags) []byte {
	if len(f) < 12 {
		return f
	}
	b := append([]byte(nil), f[:12]...)
	for _, t := range tags {
		if t != 0 {
			b = binary.BigEndian.AppendUint32(b, t)
		}
	}
	return append(b, f[12:]...)
}

func gratuitousARP(mac [6]byte, a netip.Addr) ([]byte, error) {
	ip := a.AsSlice()
	return serialize(ethernet(mac, layers.EthernetBroadcast, layers.EthernetTypeARP),
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
			HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: mac[:], SourceProtAddress: ip,
			DstHwAddress: make([]byte, 6), DstProtAddress: ip})
}

// neighbourAdvertisement keeps the router flag as the guest has it: a host takes its
// default route away from whom it hears without. Where the guest has not said it is
// set, which makes nobody a router that is not one.
func neighbourAdvertisement(mac [6]byte, a netip.Addr, r Router) ([]byte, error) {
	all := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: 255,
		SrcIP: a.AsSlice(), DstIP: net.IPv6linklocalallnodes}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	const router, override = 0x80, 0x20
	flags := uint8(override)
	if r != NoRouter {
		flags |= router
	}
	return serialize(ethernet(mac, all, layers.EthernetTypeIPv6), ip, icmp,
		&layers.ICMPv6NeighborAdvertisement{Flags: flags, TargetAddress: a.AsSlice(),
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
