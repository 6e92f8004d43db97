//go:build linux

package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
)

// offloads change frames on their way between the card and a packet socket:
// what it receives would be merged, what it sends lack its checksum. Names as
// in the kernel's net/ethtool/common.c.
var offloads = []string{
	"rx-checksum", "rx-gro", "rx-gro-hw", "rx-gro-list", "rx-lro",
	"tx-checksum-ip-generic", "tx-generic-segmentation", "tx-scatter-gather",
	"tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation",
}

// cards brings the network cards up: as an application that reads packets
// wants them, or with addresses for the kernel to route between.
func cards(o options) error {
	// Neighbour and router discovery would be noise in the tests' captures.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list the network cards: %w", err)
	}
	known := map[string]bool{}
	for _, link := range links {
		name := link.Attrs().Name
		known[name] = true
		if name != "lo" && !strings.HasPrefix(name, "eth") {
			continue
		}
		if err := bringUp(link, o); err != nil {
			return fmt.Errorf("bring %s up: %w", name, err)
		}
	}
	for name := range o.addresses {
		if !known[name] {
			return fmt.Errorf("no network card %s for its address", name)
		}
	}
	return nil
}

func bringUp(link netlink.Link, o options) error {
	name := link.Attrs().Name
	for _, p := range o.addresses[name] {
		address := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}}
		if err := netlink.AddrAdd(link, address); err != nil {
			return fmt.Errorf("add the address %s: %w", p, err)
		}
	}
	if name == "lo" {
		return netlink.LinkSetUp(link)
	}
	if !o.plain {
		if err := netlink.SetPromiscOn(link); err != nil {
			return fmt.Errorf("promiscuous mode: %w", err)
		}
	}
	if !o.offloads {
		if err := plainFrames(name); err != nil {
			return fmt.Errorf("switch offloads off: %w", err)
		}
	}
	return netlink.LinkSetUp(link)
}

// plainFrames switches off what offloads the card lets one switch, and says
// which stay: with those only a card that was made without them helps.
func plainFrames(card string) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	features, err := e.FeaturesWithState(card)
	if err != nil {
		return err
	}
	off, fixed := map[string]bool{}, []string{}
	for _, name := range offloads {
		f := features[name]
		switch {
		case f.Available && !f.NeverChanged:
			off[name] = false
		case f.Active:
			fixed = append(fixed, name)
		}
	}
	if len(fixed) > 0 {
		fmt.Printf("STILLPOINT-GUEST: %s keeps its offloads %s\n", card, strings.Join(fixed, " "))
	}
	return e.Change(card, off)
}

// route lets the kernel forward, and answers UDP on port 7 (RFC 862).
func route(o options) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return err
	}
	for _, addresses := range o.addresses {
		for _, p := range addresses {
			// A socket of each address answers from that address.
			c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Addr(), 7)))
			if err != nil {
				return fmt.Errorf("open the echo service: %w", err)
			}
			go echo(c)
		}
	}
	return nil
}

// echo until the guest ends.
func echo(c *net.UDPConn) {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buffer)
		if err != nil {
			fmt.Println("STILLPOINT-GUEST: the echo service ended:", err)
			return
		}
		_, _ = c.WriteToUDPAddrPort(buffer[:n], from) // as good as a lost packet
	}
}
