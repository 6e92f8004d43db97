package station

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

func TestAnnouncementFrames(t *testing.T) {
	unknown, err := Announcements(guestMAC, nil)
	if err != nil || len(unknown) != 1 || binary.BigEndian.Uint16(unknown[0][12:]) != 0x8035 {
		t.Fatalf("want one RARP frame, got %x (%v)", unknown, err)
	}
	known, err := Announcements(guestMAC, []Address{{Addr: netip.MustParseAddr("10.1.0.1")}, {Addr: netip.MustParseAddr("fd00::1")}})
	if err != nil || len(known) != 2 {
		t.Fatalf("want two frames, got %d (%v)", len(known), err)
	}
	if known[1][54] != 136 || known[1][58]&0x20 == 0 {
		t.Fatalf("want an overriding neighbour advertisement, got %x", known[1])
	}
}
