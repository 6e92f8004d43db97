package gate

import (
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/station"
)

// What is announced: an address of the guest's, whether a router has it, and the tags of
// its VLAN.
type (
	Address = station.Address
	Router  = station.Router
	Tags    = station.Tags
)

// What a guest has said of a router's address.
const (
	RouterUnknown = station.RouterUnknown
	NoRouter      = station.NoRouter
	IsRouter      = station.IsRouter
)

// Announce tells the network that the guest's addresses are reached here:
// gratuitous ARP (RFC 5227) and unsolicited neighbour advertisements
// (RFC 4861 7.2.6), or RARP where no address is known, as QEMU itself does
// after a migration. Each goes from the station, and with the VLAN tags, by which
// the guest has used the address.
func (g *Gate) Announce() error { return g.announce(func() bool { return true }) }

// AnnounceAgain is Announce as long as output passes. Where it is held a standby may
// have taken over, and the network must not be drawn away from it.
func (g *Gate) AnnounceAgain() error {
	return g.announce(func() bool { return g.out.mode == passing })
}

// announce where it is due, asked with the output's lock held.
func (g *Gate) announce(due func() bool) error {
	for i, p := range g.ports {
		frames, err := station.Announcements(p.MAC, p.learned.List(i))
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

// Addresses lists what the specification tells and what the guest has shown.
func (g *Gate) Addresses() (all []Address) {
	for i, p := range g.ports {
		all = append(all, p.learned.List(i)...)
	}
	return all
}

// Learn takes the addresses that another host has seen in place of those known here.
func (g *Gate) Learn(addresses []Address) {
	for i, p := range g.ports {
		var own []Address
		for _, a := range addresses {
			if a.Port == i {
				own = append(own, a)
			}
		}
		p.learned.Replace(own)
	}
}
