package colo

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// A piece is some bytes of a golden stream and what they mean.
type piece struct {
	label string
	bytes []byte
}

// x is a piece in hexadecimal, text one in letters, fill one byte repeated.
func x(label, digits string) piece {
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		panic(label + ": " + err.Error())
	}
	return piece{label, b}
}

func text(label, s string) piece { return piece{label, []byte(s)} }

func fill(label string, c byte, n int) piece { return piece{label, bytes.Repeat([]byte{c}, n)} }

func join(pieces ...[]piece) []byte {
	var b []byte
	for _, ps := range pieces {
		for _, p := range ps {
			b = append(b, p.bytes...)
		}
	}
	return b
}

// compare names the first piece in which got differs.
func compare(t *testing.T, got []byte, want ...[]piece) {
	t.Helper()
	at := 0
	for _, ps := range want {
		for _, p := range ps {
			end := min(at+len(p.bytes), len(got))
			if !bytes.Equal(got[at:end], p.bytes) {
				t.Fatalf("%s at byte %d: got % x, want % x", p.label, at, got[at:min(end, at+64)], p.bytes[:min(64, len(p.bytes))])
			}
			at = end
		}
	}
	if at != len(got) {
		t.Fatalf("%d bytes too many", len(got)-at)
	}
}

// goldenHeader is how the primary opens the channel.
var goldenHeader = []piece{
	x("magic", "51 45 56 4d"),
	x("version", "00 00 00 03"),
	x("configuration", "07"),
	x("length of the machine name", "00 00 00 12"),
	text("machine name", "pc-i440fx-10.0.foo"),
}

var goldenStart = []piece{
	x("section start", "01"),
	x("section id", "00 00 00 02"),
	x("name length", "03"), text("name", "ram"),
	x("instance", "00 00 00 00"),
	x("version", "00 00 00 04"),
	x("total size, flag size", "00 00 00 00 00 00 40 04"),
	x("block name length", "04"), text("block name", "ram0"),
	x("block size", "00 00 00 00 00 00 30 00"),
	x("block name length", "07"), text("block name", "pc.bios"),
	x("block size", "00 00 00 00 00 00 10 00"),
	x("end of records", "00 00 00 00 00 00 00 10"),
	x("footer", "7e 00 00 00 02"),
}

var goldenMemory = []piece{
	x("section part", "02 00 00 00 02"),
	x("page 0 of", "00 00 00 00 00 00 00 08"),
	x("block name length", "04"), text("block name", "ram0"),
	fill("page", 0xa1, PageSize),
	x("zero page 1 of the same", "00 00 00 00 00 00 10 22"),
	x("fill", "00"),
	x("end of records", "00 00 00 00 00 00 00 10"),
	x("footer", "7e 00 00 00 02"),
	x("command, switchover start, no payload", "08 00 0b 00 00"),
	x("command, ping, payload", "08 00 02 00 04 00 00 00 01"),
	x("section end", "03 00 00 00 02"),
	x("page 2 of the same", "00 00 00 00 00 00 20 28"),
	fill("page", 0xa2, PageSize),
	x("zero page 0 of", "00 00 00 00 00 00 00 02"),
	x("block name length", "07"), text("block name", "pc.bios"),
	x("fill", "00"),
	x("end of records", "00 00 00 00 00 00 00 10"),
	x("footer", "7e 00 00 00 02"),
}

// goldenReturnPath is what QEMU 11 says before its first section, as it has a return
// path, and goldenEnableCOLO what QEMU 10 says there.
var (
	goldenReturnPath = []piece{
		x("command, open the return path, no payload", "08 00 01 00 00"),
		x("command, ping, payload", "08 00 02 00 04 00 00 00 01"),
	}
	goldenEnableCOLO = []piece{x("command, enable COLO, no payload", "08 00 08 00 00")}
)

// goldenReturnPathEnd is our only word on it.
var goldenReturnPathEnd = []piece{x("shut", "00 01"), x("length", "00 04"), x("all is well", "00 00 00 00")}

var goldenFull = []piece{x("section full", "04")}

// goldenCheckpoint continues with the block of the last page before it.
var goldenCheckpoint = []piece{
	x("checkpoint request", "00 00 00 01"),
	x("vmstate send", "00 00 00 03"),
	x("command, switchover start", "08 00 0b 00 00"),
	x("section end", "03 00 00 00 02"),
	x("page 0 of the same", "00 00 00 00 00 00 00 28"),
	fill("page", 0xb1, PageSize),
	x("end of records", "00 00 00 00 00 00 00 10"),
	x("footer", "7e 00 00 00 02"),
	x("end of file", "00"),
	x("vmstate size", "00 00 00 04"),
	x("size", "00 00 00 00 00 00 00 05"),
	text("device state", "state"),
}

// goldenIncoming is the stream that a waiting QEMU 10.0.13 runs on from.
var goldenIncoming = []piece{
	x("magic", "51 45 56 4d"),
	x("version", "00 00 00 03"),
	x("configuration", "07"),
	x("length of the machine name", "00 00 00 0e"),
	text("machine name", "pc-i440fx-10.0"),
	x("subsection", "05"),
	x("name length", "1a"), text("name", "configuration/capabilities"),
	x("version", "00 00 00 01"),
	x("capabilities", "00 00 00 01"),
	x("name length", "0f"), text("name", "x-ignore-shared"),
	x("section start", "01"),
	x("section id", "00 00 00 02"),
	x("name length", "03"), text("name", "ram"),
	x("instance", "00 00 00 00"),
	x("version", "00 00 00 04"),
	x("total size, flag size", "00 00 00 00 00 10 20 04"),
	x("block name length", "04"), text("block name", "ram0"),
	x("block size", "00 00 00 00 00 10 00 00"),
	x("address", "00 00 00 00 00 00 00 00"),
	x("block name length", "07"), text("block name", "pc.bios"),
	x("block size", "00 00 00 00 00 00 20 00"),
	x("address", "00 00 00 00 00 00 00 00"),
	x("end of records", "00 00 00 00 00 00 00 10"),
	x("footer", "7e 00 00 00 02"),
	x("section end", "03 00 00 00 02"),
	x("page 0 of", "00 00 00 00 00 00 00 08"),
	x("block name length", "07"), text("block name", "pc.bios"),
	fill("page", 0xc1, PageSize),
	x("page 1 of the same", "00 00 00 00 00 00 10 28"),
	fill("page", 0xc2, PageSize),
	x("end of records", "00 00 00 00 00 00 00 10"),
	x("footer", "7e 00 00 00 02"),
	x("section full", "04"), text("device state", "of every device"), x("end of file", "00"),
	x("description", "06"),
	x("length", "00 00 00 02"),
	text("description", "{}"),
}

// goldenCheckpoint11 is the same of QEMU 11, which sends no command.
var goldenCheckpoint11 = slices.Concat(goldenCheckpoint[:2], goldenCheckpoint[3:])
