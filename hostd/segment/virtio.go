package segment

import (
	"encoding/binary"
	"hash/crc32"
)

// Lengths of headers.
const (
	VirtioHeader   = 10 // struct virtio_net_hdr, linux/virtio_net.h
	EthernetHeader = 14
	VLANTag        = 4
)

// Where the fields of the virtio header are, in the host's byte order.
const (
	fieldFlags, fieldKind                   = 0, 1
	fieldHeaderLength, fieldSize            = 2, 4
	fieldChecksumStart, fieldChecksumOffset = 6, 8
)

// What they say.
const (
	needsChecksum                     byte = 1 // a flag
	gsoNone, gsoTCP4, gsoTCP6, gsoUDP byte = 0, 1, 4, 5
	gsoECN                            byte = 0x80
)

// Segmented tells whether a frame stands for many.
func Segmented(frame []byte) bool { return frame[fieldKind] != gsoNone }

// InsertVLAN puts a tag that the kernel has stripped from a frame of n bytes back behind
// the MAC addresses, and moves the offsets of the virtio header along. b has room for it.
func InsertVLAN(b []byte, n int, tci, tpid uint16) int {
	at := VirtioHeader + 12
	copy(b[at+VLANTag:n+VLANTag], b[at:n])
	binary.BigEndian.PutUint16(b[at:], tpid)
	binary.BigEndian.PutUint16(b[at+2:], tci)
	if l := binary.NativeEndian.Uint16(b[fieldHeaderLength:]); l != 0 {
		binary.NativeEndian.PutUint16(b[fieldHeaderLength:], l+VLANTag)
	}
	if b[fieldFlags]&needsChecksum != 0 {
		start := binary.NativeEndian.Uint16(b[fieldChecksumStart:])
		binary.NativeEndian.PutUint16(b[fieldChecksumStart:], start+VLANTag)
	}
	return n + VLANTag
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FinishSCTP completes a checksum that whoever reads the virtio header would take for
// a sum of 16 bits: of the known protocols only SCTP's is 8 bytes from its header.
func FinishSCTP(frame []byte) {
	native := binary.NativeEndian
	if frame[fieldFlags]&needsChecksum == 0 || native.Uint16(frame[fieldChecksumOffset:]) != 8 {
		return
	}
	start := VirtioHeader + int(native.Uint16(frame[fieldChecksumStart:]))
	if start+12 > len(frame) {
		return
	}
	clear(frame[start+8 : start+12])
	binary.LittleEndian.PutUint32(frame[start+8:], crc32.Checksum(frame[start:], castagnoli))
	frame[fieldFlags] &^= needsChecksum
	native.PutUint16(frame[fieldChecksumStart:], 0)
	native.PutUint16(frame[fieldChecksumOffset:], 0)
}
