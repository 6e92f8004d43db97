package rtnetlink

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzLinks(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{32, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 5, 0, 0, 0, 0x43, 0, 1, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if messages, _ := ParseLinks(b); len(messages) > len(b)/unix.SizeofNlMsghdr {
			t.Errorf("%d messages in %d bytes", len(messages), len(b))
		}
	})
}

// On a machine of little endian: interface 5, "eth0", up and with a carrier.
const linkMessage = "2c000000 1000 0000 00000000 00000000" + // length, RTM_NEWLINK, flags, number, port
	"00 00 0100 05000000 43000100 00000000" + // family, device, interface, flags, changed
	"0900 0300 65746830 00 000000" // IFLA_IFNAME

func TestLinksRequest(t *testing.T) {
	want := unhex(t, "20000000 1200 0103 00000000 00000000 00 00 0000 00000000 00000000 00000000")
	if got := LinksRequest(); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestLinkMessages(t *testing.T) {
	eth0 := Message{Index: 5, Name: "eth0", Flags: 0x10043}
	gone := eth0
	gone.Deleted = true
	const done = "14000000 0300 0200 00000000 00000000 00000000"
	for name, c := range map[string]struct {
		bytes string
		want  []Message
		end   bool
	}{
		"an interface":             {linkMessage, []Message{eth0}, false},
		"and the end of a listing": {linkMessage + done, []Message{eth0}, true},
		"one that is deleted":      {strings.Replace(linkMessage, "1000 0000", "1100 0000", 1), []Message{gone}, false},
		"of a bridge's port":       {strings.Replace(linkMessage, "00 00 0100", "07 00 0100", 1), nil, false},
		"of another kind":          {strings.Replace(linkMessage, "1000 0000", "1400 0000", 1), nil, false},
		"an attribute cut off":     {strings.Replace(linkMessage, "0900 0300", "0d00 0300", 1), nil, false},
		"a message cut off":        {linkMessage[:36], nil, false},
		"nothing":                  {"", nil, false},
	} {
		if got, end := ParseLinks(unhex(t, c.bytes)); !slices.Equal(got, c.want) || end != c.end {
			t.Errorf("%s: %+v, end %v; want %+v, %v", name, got, end, c.want, c.end)
		}
	}
}
