package station

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

var (
	v4, v6     = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fe80::1")
	guestMAC   = [6]byte{0x52, 0x54, 0, 1, 2, 3}
	peerMAC    = [6]byte{0x52, 0x54, 0, 9, 9, 9}
	virtualMAC = [6]byte{0, 0, 0x5e, 0, 1, 7}
)

// anything is a frame that says nothing of addresses.
func anything(from [6]byte) []byte {
	return append(append(append([]byte(nil), peerMAC[:]...), from[:]...), 0x88, 0xb5, 1, 2, 3)
}

// says are the frames by which a station shows an address.
func says(t *testing.T, mac [6]byte, a netip.Addr, tags Tags, r Router) []byte {
	t.Helper()
	f, err := announcement(Address{Addr: a, MAC: mac, Tags: tags, Router: r})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func bookOf(named ...Address) *Book { return NewBook(guestMAC, named...) }

func (b *Book) check(t *testing.T, want ...Address) {
	t.Helper()
	if got := b.List(0); !slices.Equal(got, want) {
		t.Errorf("known are %+v, want %+v", got, want)
	}
}

func TestAddressesAreLearntWithTheirTags(t *testing.T) {
	for _, tags := range []Tags{{}, {0x81000064}, {0x88a80064, 0x81000007}, {0x81000001, 0x81000002}} {
		b := bookOf()
		b.Snoop(says(t, guestMAC, v4, tags, RouterUnknown))
		b.Snoop(says(t, guestMAC, v6, tags, NoRouter))
		b.check(t, Address{Addr: v4, MAC: guestMAC, Tags: tags}, Address{Addr: v6, MAC: guestMAC, Tags: tags, Router: NoRouter})
		frames, err := Announcements(guestMAC, b.List(0))
		if err != nil || !bytes.Equal(frames[0], says(t, guestMAC, v4, tags, RouterUnknown)) {
			t.Errorf("announced as %x (%v)", frames[0], err)
		}
	}
}

func TestEachStationBehindAPortIsAnnounced(t *testing.T) {
	b := bookOf()
	b.Snoop(says(t, virtualMAC, v4, Tags{}, RouterUnknown))
	other := [6]byte{2, 0, 0, 0, 0, 9}
	b.Snoop(anything(other))
	b.check(t, Address{Addr: v4, MAC: virtualMAC}, Address{MAC: other})
	frames, err := Announcements(guestMAC, b.List(0))
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
		b.Hear(says(t, guestMAC, a, Tags{}, NoRouter))
		b.Hear(says(t, peerMAC, a, Tags{0x81000064}, NoRouter))
		b.check(t, Address{Addr: a})
		b.Hear(says(t, peerMAC, a, Tags{}, NoRouter))
		b.check(t)
		b.Snoop(says(t, guestMAC, a, Tags{}, NoRouter))
		if got := b.List(0); len(got) != 1 || got[0].Addr != a {
			t.Errorf("said again by the guest, known are %+v", got)
		}
	}
	b := bookOf(Address{MAC: virtualMAC}, Address{MAC: guestMAC})
	b.Hear(anything(virtualMAC))
	b.Hear(anything(guestMAC))
	b.check(t, Address{MAC: guestMAC})
}

// TestAStationThatHasMoved: its addresses have gone with it, as those of a virtual router
// whose MAC address another one has by now.
func TestAStationThatHasMoved(t *testing.T) {
	mine, tags := Address{Addr: v6, MAC: guestMAC}, Tags{0x81000064}
	relayed := says(t, virtualMAC, v4, Tags{}, RouterUnknown)
	copy(relayed[6:], peerMAC[:])
	for what, f := range map[string][]byte{
		"it says so": says(t, virtualMAC, v4, Tags{}, RouterUnknown), "it sends anything": anything(virtualMAC),
		"its new router says so by an address of its own": relayed,
	} {
		b := bookOf(Address{Addr: v4, MAC: virtualMAC}, Address{Addr: v4, MAC: virtualMAC, Tags: tags}, mine)
		b.Hear(f)
		if got, want := b.List(0), []Address{{Addr: v4, MAC: virtualMAC, Tags: tags}, mine}; !slices.Equal(got, want) {
			t.Errorf("%s: known are %+v, want %+v", what, got, want)
		}
	}
}

func TestTheBookIsBounded(t *testing.T) {
	b := bookOf()
	for n := range 1000 {
		b.Snoop(says(t, [6]byte{2, 0, 0, 0, byte(n >> 8), byte(n)}, netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), Tags{}, RouterUnknown))
		b.Snoop(says(t, guestMAC, v4, Tags{}, RouterUnknown))
	}
	known := b.List(0)
	if len(known) > 2*addressesPerPort || !slices.Contains(known, Address{Addr: v4, MAC: guestMAC}) {
		t.Errorf("%d are known; that said most often is among them: %v", len(known), slices.Contains(known, Address{Addr: v4, MAC: guestMAC}))
	}
}

func FuzzSnoop(f *testing.F) {
	f.Add(make([]byte, 14), true)
	f.Fuzz(func(t *testing.T, b []byte, guest bool) {
		if len(b) < 14 {
			return
		}
		book := bookOf(Address{Addr: v4})
		if guest {
			book.Snoop(b)
		} else {
			book.Hear(b)
		}
		if _, err := Announcements(guestMAC, book.List(0)); err != nil {
			t.Error(err)
		}
	})
}
