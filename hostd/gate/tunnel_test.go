package gate

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/e2e/offload"
	"github.com/stillpoint-ft/stillpoint/hostd/segment"
)

// rooms are what the kernel's program says of each tunnel that it makes.
var rooms = map[string]uint64{
	"VXLAN": roomIPv4 | roomUDP | roomBridged | roomInner(14), "VXLAN over IPv6": roomIPv6 | roomUDP | roomBridged | roomInner(14),
	"GENEVE": roomIPv4 | roomUDP | roomBridged | roomInner(14), "IP over UDP": roomIPv4 | roomUDP,
	"GRE": roomIPv4 | roomGRE, "GRE with a key": roomIPv4 | roomGRE, "GRE over IPv6": roomIPv6 | roomGRE,
	"bridged GRE": roomIPv4 | roomGRE | roomBridged | roomInner(14), "IP over IPv4": roomIPv4, "IP over IPv6": roomIPv6,
}

// TestFramesOfManyInTunnels: they reach the other side in the very pieces that the
// kernel makes of them.
func TestFramesOfManyInTunnels(t *testing.T) {
	for name, u := range offload.Tunnels {
		for what, inside := range offload.Insides {
			t.Run(name+", "+what, func(t *testing.T) {
				w := newWire(t, Options{})
				whole := offload.Partial(offload.Many(t, inside.Kind, inside.Size, offload.Numbered(30011)))
				inserted := u.Inserted(t, whole, inside.Kind)
				want := kernelPieces(t, whole, inserted, rooms[name])
				w.OpenInput()
				w.Pass()
				encapsulate(t, "network", inserted, rooms[name]|roomFixedGSO)
				encapsulate(t, "guest", inserted, rooms[name]|roomFixedGSO)
				must(t, w.network.send(whole))
				expectPieces(t, "to the guest", w.guest, want)
				must(t, w.guest.send(whole))
				expectPieces(t, "from the guest", w.network, want)
				if s := w.Stats(); s.Uncarried != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// kernelPieces has the kernel cut a frame.
func kernelPieces(t *testing.T, whole, inserted []byte, room uint64) (pieces [][]byte) {
	t.Helper()
	netns.Veth(t, "kernel", "kernelout")
	cutBeforeSending(t, "kernel")
	encapsulate(t, "kernel", inserted, room|roomFixedGSO)
	from, to := endpoint(t, "kernel"), endpoint(t, "kernelout")
	defer from.Close()
	defer to.Close()
	must(t, from.send(whole))
	size := int(binary.NativeEndian.Uint16(whole[offload.Size:]))
	for range (30011 + size - 1) / size {
		f := to.next(5 * time.Second)
		if f == nil {
			t.Fatalf("the kernel makes %d pieces", len(pieces))
		}
		pieces = append(pieces, offload.Bare(f))
	}
	return pieces
}

func expectPieces(t *testing.T, where string, from *end, want [][]byte) {
	t.Helper()
	for i, w := range want {
		f := from.next(5 * time.Second)
		if f == nil {
			t.Fatalf("%s: %d pieces of %d", where, i, len(want))
		}
		if segment.Segmented(f) {
			t.Fatalf("%s: a frame of %d bytes that stands for many", where, len(f))
		}
		if got := offload.Bare(f); !bytes.Equal(got, w) {
			t.Fatalf("%s: piece %d: %d bytes, want %d\n%s\n%s", where, i, len(got), len(w), gopacket.NewPacket(got, layers.LayerTypeEthernet, gopacket.Default), gopacket.NewPacket(w, layers.LayerTypeEthernet, gopacket.Default))
		}
	}
}

// TestFramesOfManyFromTheKernelsTunnels: the kernel's own devices put them in, with
// checksums.
func TestFramesOfManyFromTheKernelsTunnels(t *testing.T) {
	near, far := net.IPv4(192, 0, 2, 1), net.IPv4(192, 0, 2, 2)
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "tunnel"
	for name, link := range map[string]netlink.Link{
		"VXLAN with a sum": &netlink.Vxlan{LinkAttrs: attributes, VxlanId: 7, Port: 4789, SrcAddr: near, Group: far, UDPCSum: true},
		"VXLAN":            &netlink.Vxlan{LinkAttrs: attributes, VxlanId: 7, Port: 4789, SrcAddr: near, Group: far},
		"GENEVE":           &netlink.Geneve{LinkAttrs: attributes, ID: 7, Dport: 6081, Remote: far},
		"bridged GRE":      &netlink.Gretap{LinkAttrs: attributes, Local: near, Remote: far, IFlags: 1 << 7, OFlags: 1 << 7},
	} {
		for what, inside := range offload.Insides {
			t.Run(name+", "+what, func(t *testing.T) {
				w := newWire(t, Options{})
				w.OpenInput()
				under := netns.Link(t, "network")
				must(t, netlink.AddrAdd(under, &netlink.Addr{IPNet: &net.IPNet{IP: near, Mask: net.CIDRMask(24, 32)}}))
				must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: under.Attrs().Index, State: netlink.NUD_PERMANENT, IP: far, HardwareAddr: guestMAC[:]}))
				if err := netlink.LinkAdd(link); err != nil {
					t.Skipf("needs the kernel's tunnel device %s: %v", link.Type(), err)
				}
				os.WriteFile("/proc/sys/net/ipv6/conf/tunnel/disable_ipv6", []byte("1"), 0)
				must(t, netlink.LinkSetUp(netns.Link(t, "tunnel")))
				from := endpoint(t, "tunnel")
				defer from.Close()
				payload := offload.Numbered(30011)
				must(t, from.send(offload.Partial(offload.Many(t, inside.Kind, inside.Size, payload))))
				var got []byte
				for len(got) < len(payload) {
					f := w.guest.next(5 * time.Second)
					if f == nil {
						t.Fatalf("%d bytes of %d arrive", len(got), len(payload))
					}
					got = append(got, offload.Carried(t, f)...)
				}
				if !bytes.Equal(got, payload) {
					t.Error("they carry something else")
				}
			})
		}
	}
}
