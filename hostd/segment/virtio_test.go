package segment

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
	"testing"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sctp is a frame whose header of SCTP, at its end, begins 34 bytes behind the virtio header.
func sctp(flags byte, start, offset uint16) []byte {
	f := make([]byte, VirtioHeader+EthernetHeader+20)
	f[fieldFlags] = flags
	binary.NativeEndian.PutUint16(f[fieldChecksumStart:], start)
	binary.NativeEndian.PutUint16(f[fieldChecksumOffset:], offset)
	return append(f, 0x13, 0x88, 0x13, 0x89, 0, 0, 0, 1, 0xee, 0xee, 0xee, 0xee, 1, 2, 3)
}

func TestTheSumOfSCTPIsCompleted(t *testing.T) {
	f := sctp(needsChecksum, EthernetHeader+20, 8)
	FinishSCTP(f)
	packet := append([]byte(nil), f[VirtioHeader+EthernetHeader+20:]...)
	got := binary.LittleEndian.Uint32(packet[8:])
	clear(packet[8:12])
	if want := crc32.Checksum(packet, crc32.MakeTable(crc32.Castagnoli)); got != want || !bytes.Equal(f[:VirtioHeader], make([]byte, VirtioHeader)) {
		t.Errorf("the sum is %08x, want %08x, behind the virtio header % x", got, want, f[:VirtioHeader])
	}
}

func TestOtherSumsAreLeftAlone(t *testing.T) {
	for name, f := range map[string][]byte{
		"complete": sctp(0, EthernetHeader+20, 8), "of TCP": sctp(needsChecksum, EthernetHeader+20, 16), "beyond the frame": sctp(needsChecksum, EthernetHeader+24, 8),
	} {
		before := append([]byte(nil), f...)
		if FinishSCTP(f); !bytes.Equal(f, before) {
			t.Errorf("%s: % x became % x", name, before, f)
		}
	}
}

// TestATagIsPutBack, and the virtio header tells of what is behind it as before.
func TestATagIsPutBack(t *testing.T) {
	const macs, rest = "525400010203 525400090909", "0800 0102"
	for name, c := range map[string]struct{ before, after string }{
		"no offsets": {"00 00 0000 0000 0000 0000", "00 00 0000 0000 0000 0000"},
		"a sum to be completed in one of many segments": {"01 01 3600 a805 2200 1000", "01 01 3a00 a805 2600 1000"}, // of little endian
	} {
		b := append(unhex(t, c.before+macs+rest), make([]byte, VLANTag)...)
		n := InsertVLAN(b, len(b)-VLANTag, 0x202a, 0x8100)
		if want := unhex(t, c.after+macs+"8100 202a"+rest); !bytes.Equal(b[:n], want) {
			t.Errorf("%s: got % x, want % x", name, b[:n], want)
		}
	}
}
