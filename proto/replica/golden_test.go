package replica

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// A piece is some bytes of a golden frame and what they mean.
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

// compare names the first piece in which got differs.
func compare(t *testing.T, got []byte, want []piece) {
	t.Helper()
	at := 0
	for _, p := range want {
		end := min(at+len(p.bytes), len(got))
		if !bytes.Equal(got[at:end], p.bytes) {
			t.Fatalf("%s at byte %d: got % x, want % x", p.label, at, got[at:end], p.bytes)
		}
		at = end
	}
	if at != len(got) {
		t.Fatalf("%d bytes too many", len(got)-at)
	}
}

// A payload is a golden payload: its struct, its bytes, and how to get from
// the bytes to the struct.
type payload struct {
	t      Type
	value  interface{ Append([]byte) []byte }
	pieces []piece
	decode func([]byte) (any, error)
}

func decoder[T any](decode func([]byte) (T, error)) func([]byte) (any, error) {
	return func(p []byte) (any, error) { return decode(p) }
}

var totals = []piece{
	x("pages", "00 00 00 00 00 00 00 e6"),
	x("zero pages", "00 00 00 00 00 00 00 07"),
	x("device state", "00 01 00 00"),
	x("output frames", "00 00 00 02"),
}

var heartbeat = []piece{x("seq", "00 00 00 00 00 00 00 09"), x("sent", "ff ff ff ff ff ff ff fe")}

func goldenPayloads() []payload {
	return []payload{
		{TypeHello, Hello{Protocol: 6, Host: "a", Machine: "nat", Purpose: 2}, []piece{
			x("protocol", "00 06"), x("length", "00 01"), text("host", "a"),
			x("length", "00 03"), text("machine", "nat"), x("purpose", "02"),
		}, decoder(DecodeHello)},
		{TypeWelcome, Welcome{Protocol: 6, Host: "b", Limit: 5e8}, []piece{
			x("protocol", "00 06"), x("length", "00 01"), text("host", "b"), x("limit", "00 00 00 00 1d cd 65 00"),
		}, decoder(DecodeWelcome)},
		{TypeReject, Reject{Code: 3, Reason: "no room"}, []piece{
			x("code", "00 03"), x("length", "00 07"), text("reason", "no room"),
		}, decoder(DecodeReject)},
		{TypePrepare, Prepare{Spec: []byte("name: nat"), MachineType: "pc", Generation: 4}, []piece{
			x("length", "00 00 00 09"), text("spec", "name: nat"), x("length", "00 02"), text("machine type", "pc"),
			x("generation", "00 00 00 00 00 00 00 04"),
		}, decoder(DecodePrepare)},
		{TypePrepared, Prepared{QEMUVersion: "10.0.13"}, []piece{
			x("length", "00 07"), text("version", "10.0.13"),
		}, decoder(DecodePrepared)},
		{TypeCards, Cards{Features: [][]string{{"A", "BC"}, {}}, MTUs: []uint32{1500, 0}}, []piece{
			x("cards", "00 00 00 02"),
			x("features", "00 00 00 02"), x("length", "00 01"), text("name", "A"), x("length", "00 02"), text("name", "BC"),
			x("features", "00 00 00 00"),
			x("MTUs", "00 00 00 02"), x("MTU", "00 00 05 dc"), x("MTU", "00 00 00 00"),
		}, decoder(DecodeCards)},
		{TypePorts, Ports{{Uplink: End{State: "up", Millis: 7000}, Tap: End{State: "gone"}}}, []piece{
			x("ports", "00 00 00 01"),
			x("length", "00 02"), text("uplink", "up"), x("milliseconds", "00 00 00 00 00 00 1b 58"),
			x("length", "00 04"), text("tap", "gone"), x("milliseconds", "00 00 00 00 00 00 00 00"),
		}, decoder(DecodePorts)},
		{TypeBlocks, Blocks{MachineName: "pc-10", RAM: Section{ID: 2, Instance: 1, Version: 4},
			Blocks: []Block{{"ram0", 1 << 28}, {"pc.bios", 1 << 18}}}, []piece{
			x("length", "00 05"), text("machine name", "pc-10"),
			x("section", "00 00 00 02"), x("instance", "00 00 00 01"), x("version", "00 00 00 04"),
			x("blocks", "00 00 00 02"),
			x("length", "00 04"), text("name", "ram0"), x("size", "00 00 00 00 10 00 00 00"),
			x("length", "00 07"), text("name", "pc.bios"), x("size", "00 00 00 00 00 04 00 00"),
		}, decoder(DecodeBlocks)},
		{TypeEpochBegin, EpochBegin{Pages: 230, ZeroPages: 7, Device: 1 << 16, Output: 2}, totals, decoder(DecodeEpochBegin)},
		{TypeEpochEnd, EpochEnd{Pages: 230, ZeroPages: 7, Device: 1 << 16, Output: 2}, totals, decoder(DecodeEpochEnd)},
		{TypeHeartbeat, Heartbeat{Seq: 9, SentNanos: -2}, heartbeat, decoder(DecodeHeartbeat)},
		{TypeAddresses, Addresses{List: []Address{
			{Port: 0, MAC: [6]byte{0x52, 0x54, 0, 0, 0, 1}, IP: netip.MustParseAddr("10.1.0.1")},
			{Port: 1, MAC: [6]byte{0x52, 0x54, 0, 0, 0, 2}, IP: netip.MustParseAddr("fd00::1"), Router: 2, Tags: [2]uint32{0x88a80064, 0x81000007}},
			{Port: 2, MAC: [6]byte{0x52, 0x54, 0, 0, 0, 3}},
		}}, []piece{
			x("addresses", "00 00 00 03"),
			x("port", "00 00"), x("MAC", "52 54 00 00 00 01"), x("router", "00"), x("tags", "00000000 00000000"), x("IPv4", "04 0a 01 00 01"),
			x("port", "00 01"), x("MAC", "52 54 00 00 00 02"), x("router", "02"), x("tags", "88a80064 81000007"), x("IPv6", "10 fd00 0000 0000 0000 0000 0000 0000 0001"),
			x("port", "00 02"), x("MAC", "52 54 00 00 00 03"), x("router", "00"), x("tags", "00000000 00000000"), x("no IP", "00"),
		}, decoder(DecodeAddresses)},
		{TypeRole, Role{Generation: 5, Role: "standby"}, []piece{
			x("generation", "00 00 00 00 00 00 00 05"), x("length", "00 07"), text("role", "standby"),
		}, decoder(DecodeRole)},
		{TypeMachineLost, MachineLost{Reason: "killed"}, []piece{x("length", "00 06"), text("reason", "killed")}, decoder(DecodeMachineLost)},
		{TypeTookOver, TookOver{Host: "b"}, []piece{x("length", "00 01"), text("host", "b")}, decoder(DecodeTookOver)},
		{TypeInputStored, InputStored{Number: 258}, []piece{x("number", "00 00 00 00 00 00 01 02")}, decoder(DecodeInputStored)},
		{TypeInputCut, InputCut{Upto: 258, Tails: []uint32{0, 3}}, []piece{
			x("upto", "00 00 00 00 00 00 01 02"), x("ports", "00 00 00 02"), x("tail", "00 00 00 00"), x("tail", "00 00 00 03"),
		}, decoder(DecodeInputCut)},
		{TypeDigest, Digest{Memory: 258, Device: 3}, []piece{
			x("memory", "00 00 00 00 00 00 01 02"), x("device state", "00 00 00 00 00 00 00 03"),
		}, decoder(DecodeDigest)},
		{TypeBye, Bye{Reason: "stopped"}, []piece{x("length", "00 07"), text("reason", "stopped")}, decoder(DecodeBye)},
	}
}

// goldenFrame is an output frame of one packet.
var goldenFrame = []piece{
	x("magic", "53 50 46 54"),
	x("version", "01"),
	x("type", "0a"),
	x("flags", "00 00"),
	x("length", "00 00 00 0a"),
	x("CRC32C", "cf 2f 0a 87"),
	x("epoch", "00 00 00 00 00 00 00 07"),
	x("generation", "00 00 00 00 00 00 00 03"),
	x("port", "00 01"), x("length", "00 00 00 04"), text("packet", "ping"),
}

// goldenPages has a page, a zero page and the page after the first.
var goldenPages = []piece{
	x("pages", "00 00 00 03"),
	x("page 0 of block 0", "00 00 00 00 00 00 00 00"),
	x("zero page at 1 TiB of block 2047", "00 00 01 00 00 00 0f ff"),
	x("page 1 of block 5", "00 00 00 00 00 00 10 05"),
	fill("data", 0xa1, PageSize),
	fill("data", 0xa2, PageSize),
}
