package gate

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/stillpoint-ft/stillpoint/e2e/netns"
	"github.com/stillpoint-ft/stillpoint/hostd/station"
)

var (
	v4, v6     = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fe80::1")
	virtualMAC = [6]byte{0, 0, 0x5e, 0, 1, 7}
)

// says are the frames by which a station shows an address.
func says(t *testing.T, mac [6]byte, a netip.Addr, tags Tags, r Router) []byte {
	t.Helper()
	f, err := station.Announcements(mac, []Address{{Addr: a, MAC: mac, Tags: tags, Router: r}})
	if err != nil {
		t.Fatal(err)
	}
	return f[0]
}

// TestWhatTheNetworkClaimsIsHeard by the gate, on its way to the guest.
func TestWhatTheNetworkClaimsIsHeard(t *testing.T) {
	w := newWire(t, Options{})
	w.OpenInput()
	w.Learn([]Address{{Addr: v4, MAC: guestMAC}})
	must(t, w.network.send(append(make([]byte, vnetHeader), says(t, peerMAC, v4, Tags{}, RouterUnknown)...)))
	netns.Eventually(t, "the address is another's", func() bool { return len(w.Addresses()) == 0 })
}

// TestWhoTakesOverHearsTheMachine: frames that its old primary let go last say nothing of
// others. From when input flows here they would.
func TestWhoTakesOverHearsTheMachine(t *testing.T) {
	w := newWire(t, Options{})
	w.Learn([]Address{{Addr: v4, MAC: virtualMAC}})
	w.HoldInput()
	must(t, w.network.send(append(make([]byte, vnetHeader), says(t, virtualMAC, v4, Tags{}, RouterUnknown)...)))
	netns.Eventually(t, "the frame has come", func() bool { return w.Stats().InputHeld == 1 })
	if got := w.Addresses(); len(got) != 1 {
		t.Errorf("known are %+v", got)
	}
	w.OpenInput()
	must(t, w.network.send(frame(virtualMAC, 1)))
	netns.Eventually(t, "the station is elsewhere", func() bool { return len(w.Addresses()) == 0 })
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
			netns.Eventually(t, "the host has a default route", func() bool { advertise(); return route() != "" })
			netns.Eventually(t, "the address is known", func() bool { return len(w.Addresses()) > 0 })
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
			netns.Eventually(t, "the host has worked on it", func() bool { return strings.Contains(neighbour(), last.String()+" lladdr 52:54:00:01:02:03") })
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
	f, err := serialize(&layers.Ethernet{SrcMAC: guestMAC[:], DstMAC: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv6}, ip, icmp,
		&layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: 1800, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: guestMAC[:]}}}, gopacket.Payload(nil))
	if err != nil || binary.BigEndian.Uint16(f[12:]) != 0x86dd {
		t.Fatalf("%x: %v", f, err)
	}
	return f
}

func serialize(parts ...gopacket.SerializableLayer) ([]byte, error) {
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...)
	return b.Bytes(), err
}
