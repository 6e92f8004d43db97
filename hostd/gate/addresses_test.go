package gate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

var (
	v4, v6     = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fe80::1")
	virtualMAC = [6]byte{0, 0, 0x5e, 0, 1, 7}
)

// says are the frames by which a station shows an address.
func says(t *testing.T, mac [6]byte, a netip.Addr, tags Tags, r Router) []byte {
	t.Helper()
	f, err := announcement(Address{Addr: a, MAC: mac, Tags: tags, Router: r})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func bookOf(named ...Address) *addressBook {
	b := &addressBook{own: guestMAC}
	b.replace(named)
	return b
}

func (b *addressBook) check(t *testing.T, want ...Address) {
	t.Helper()
	if got := b.list(0); !slices.Equal(got, want) {
		t.Errorf("known are %+v, want %+v", got, want)
	}
}

func TestAddressesAreLearntWithTheirTags(t *testing.T) {
	for _, tags := range []Tags{{}, {0x81000064}, {0x88a80064, 0x81000007}, {0x81000001, 0x81000002}} {
		b := bookOf()
		b.snoop(says(t, guestMAC, v4, tags, RouterUnknown))
		b.snoop(says(t, guestMAC, v6, tags, NoRouter))
		b.check(t, Address{Addr: v4, MAC: guestMAC, Tags: tags}, Address{Addr: v6, MAC: guestMAC, Tags: tags, Router: NoRouter})
		frames, err := announcements(guestMAC, b.list(0))
		if err != nil || !bytes.Equal(frames[0], says(t, guestMAC, v4, tags, RouterUnknown)) {
			t.Errorf("announced as %x (%v)", frames[0], err)
		}
	}
}

func TestEachStationBehindAPortIsAnnounced(t *testing.T) {
	b := bookOf()
	b.snoop(says(t, virtualMAC, v4, Tags{}, RouterUnknown))
	other := [6]byte{2, 0, 0, 0, 0, 9}
	b.snoop(frame(other, 1)[vnetHeader:])
	b.check(t, Address{Addr: v4, MAC: virtualMAC}, Address{MAC: other})
	frames, err := announcements(guestMAC, b.list(0))
	if err != nil || len(frames) != 3 {
		t.Fatalf("%d announcements (%v), want one for each station and the port", len(frames), err)
	}
	for i, mac := range [][6]byte{virtualMAC, other, guestMAC} {
		if !bytes.Equal(frames[i][6:12], mac[:]) {
			t.Errorf("announcement %d comes from %x, want %x", i, frames[i][6:12], mac)
		}
	}
}

func TestAnAddressThatOthersHaveIsNotAnnounced(t *testing.T) {
	for _, a := range []netip.Addr{v4, v6} {
		b := bookOf(Address{Addr: a})
		b.heard(says(t, guestMAC, a, Tags{}, NoRouter))
		b.heard(says(t, peerMAC, a, Tags{0x81000064}, NoRouter))
		b.check(t, Address{Addr: a})
		b.heard(says(t, peerMAC, a, Tags{}, NoRouter))
		b.check(t)
		b.snoop(says(t, guestMAC, a, Tags{}, NoRouter))
		if got := b.list(0); len(got) != 1 || got[0].Addr != a {
			t.Errorf("said again by the guest, known are %+v", got)
		}
	}
	b := bookOf(Address{MAC: virtualMAC}, Address{MAC: guestMAC})
	b.heard(frame(virtualMAC, 1)[vnetHeader:])
	b.heard(frame(guestMAC, 1)[vnetHeader:])
	b.check(t, Address{MAC: guestMAC})
}

// TestAStationThatHasMoved: its addresses have gone with it, as those of a virtual router
// whose MAC address another one has by now.
func TestAStationThatHasMoved(t *testing.T) {
	mine, tags := Address{Addr: v6, MAC: guestMAC}, Tags{0x81000064}
	relayed := says(t, virtualMAC, v4, Tags{}, RouterUnknown)
	copy(relayed[6:], peerMAC[:])
	for what, f := range map[string][]byte{
		"it says so": says(t, virtualMAC, v4, Tags{}, RouterUnknown), "it sends anything": frame(virtualMAC, 1)[vnetHeader:],
		"its new router says so by an address of its own": relayed,
	} {
		b := bookOf(Address{Addr: v4, MAC: virtualMAC}, Address{Addr: v4, MAC: virtualMAC, Tags: tags}, mine)
		b.heard(f)
		if got, want := b.list(0), []Address{{Addr: v4, MAC: virtualMAC, Tags: tags}, mine}; !slices.Equal(got, want) {
			t.Errorf("%s: known are %+v, want %+v", what, got, want)
		}
	}
}

func TestTheBookIsBounded(t *testing.T) {
	b := bookOf()
	for n := range 1000 {
		b.snoop(says(t, [6]byte{2, 0, 0, 0, byte(n >> 8), byte(n)}, netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), Tags{}, RouterUnknown))
		b.snoop(says(t, guestMAC, v4, Tags{}, RouterUnknown))
	}
	known := b.list(0)
	if len(known) > 2*addressesPerPort || !slices.Contains(known, Address{Addr: v4, MAC: guestMAC}) {
		t.Errorf("%d are known; that said most often is among them: %v", len(known), slices.Contains(known, Address{Addr: v4, MAC: guestMAC}))
	}
}

func FuzzSnoop(f *testing.F) {
	f.Add(make([]byte, 14), true)
	f.Fuzz(func(t *testing.T, b []byte, guest bool) {
		if len(b) < ethernetHead {
			return
		}
		book := bookOf(Address{Addr: v4})
		if guest {
			book.snoop(b)
		} else {
			book.heard(b)
		}
		if _, err := announcements(guestMAC, book.list(0)); err != nil {
			t.Error(err)
		}
	})
}

// TestWhatTheNetworkClaimsIsHeard by the gate, on its way to the guest.
func TestWhatTheNetworkClaimsIsHeard(t *testing.T) {
	w := newWire(t, Options{})
	w.OpenInput()
	w.Learn([]Address{{Addr: v4, MAC: guestMAC}})
	must(t, w.network.send(append(make([]byte, vnetHeader), says(t, peerMAC, v4, Tags{}, RouterUnknown)...)))
	eventually(t, "the address is another's", func() bool { return len(w.Addresses()) == 0 })
}

// TestWhoTakesOverHearsTheMachine: frames that its old primary let go last say nothing of
// others. From when input flows here they would.
func TestWhoTakesOverHearsTheMachine(t *testing.T) {
	w := newWire(t, Options{})
	w.Learn([]Address{{Addr: v4, MAC: virtualMAC}})
	w.HoldInput()
	must(t, w.network.send(append(make([]byte, vnetHeader), says(t, virtualMAC, v4, Tags{}, RouterUnknown)...)))
	eventually(t, "the frame has come", func() bool { return w.Stats().InputHeld == 1 })
	if got := w.Addresses(); len(got) != 1 {
		t.Errorf("known are %+v", got)
	}
	w.OpenInput()
	must(t, w.network.send(frame(virtualMAC, 1)))
	eventually(t, "the station is elsewhere", func() bool { return len(w.Addresses()) == 0 })
}

// TestAnnouncementsLeaveTheDefaultRoute: a host on the LAN has it from the guest's
// router advertisement, and keeps it whether or not the gate knows that flag.
func TestAnnouncementsLeaveTheDefaultRoute(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known=%v", known), func(t *testing.T) {
			w := newWire(t, Options{})
			for _, s := range [][2]string{{"accept_ra", "2"}, {"accept_dad", "0"}, {"disable_ipv6", "0"}} {
				must(t, os.WriteFile("/proc/sys/net/ipv6/conf/network/"+s[0], []byte(s[1]), 0))
			}
			router := netip.MustParseAddr("fe80::5054:ff:fe01:203")
			route := func() string {
				b, _ := exec.Command("ip", "-6", "route", "show", "default").CombinedOutput()
				return strings.TrimSpace(string(b))
			}
			w.Pass()
			advertise := func() { must(t, w.guest.send(append(make([]byte, vnetHeader), routerAdvertisement(t, router)...))) }
			eventually(t, "the host has a default route", func() bool { advertise(); return route() != "" })
			eventually(t, "the address is known", func() bool { return len(w.Addresses()) > 0 })
			if !known {
				w.Learn([]Address{{Addr: router, MAC: guestMAC}})
			}
			must(t, w.Announce())
			neighbour := func() string {
				b, _ := exec.Command("ip", "-6", "neigh", "show", "dev", "network").CombinedOutput()
				return string(b)
			}
			// A frame behind the announcement has been worked on once this is in the table.
			last := netip.MustParseAddr("fe80::77")
			must(t, exec.Command("ip", "-6", "neigh", "add", last.String(), "lladdr", "02:00:00:00:00:77", "nud", "stale", "dev", "network").Run())
			f := says(t, guestMAC, last, Tags{}, NoRouter)
			must(t, w.guest.send(append(make([]byte, vnetHeader), f...)))
			eventually(t, "the host has worked on it", func() bool { return strings.Contains(neighbour(), last.String()+" lladdr 52:54:00:01:02:03") })
			if route() == "" {
				t.Error("the announcement has taken the host's default route away")
			}
		})
	}
}

func routerAdvertisement(t *testing.T, from netip.Addr) []byte {
	t.Helper()
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: 255, SrcIP: from.AsSlice(), DstIP: net.ParseIP("ff02::1")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)}
	must(t, icmp.SetNetworkLayerForChecksum(ip))
	f, err := serialize(ethernet(guestMAC, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, layers.EthernetTypeIPv6), ip, icmp,
		&layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: 1800, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: guestMAC[:]}}}, gopacket.Payload(nil))
	if err != nil || binary.BigEndian.Uint16(f[12:]) != 0x86dd {
		t.Fatalf("%x: %v", f, err)
	}
	return f
}
