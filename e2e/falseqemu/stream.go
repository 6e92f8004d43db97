package falseqemu

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

const (
	pageSize = colo.PageSize
	block    = "ram0"

	// flags of a RAM record
	sized     = 0x04
	data      = 0x08
	end       = 0x10
	sameBlock = 0x20
)

// firstCopy passes over memory of so many bytes twice: the second time one page
// was dirtied meanwhile. It ends with the type of the first device's section.
func firstCopy(g Guest, memory uint64) []byte {
	b := binary.BigEndian.AppendUint32(nil, 0x5145564d)
	b = binary.BigEndian.AppendUint32(b, 3)
	b = append(b, 7, 0, 0, 0, 4)
	b = append(b, "pc-1"...)
	if g.Series >= 11 {
		b = append(b, 8, 0, 1, 0, 0)             // open the return path
		b = append(b, 8, 0, 2, 0, 4, 0, 0, 0, 1) // ping
	} else {
		b = append(b, 8, 0, 8, 0, 0) // enable COLO
	}
	b = append(b, 1, 0, 0, 0, 2)
	b = append(b, "\x03ram\x00\x00\x00\x00\x00\x00\x00\x04"...)
	b = binary.BigEndian.AppendUint64(b, memory|sized)
	b = name(b)
	b = binary.BigEndian.AppendUint64(b, memory)
	b = endSection(b)
	b = pages(b, max(g.Seed, 1), memory)
	b = pages(b, 1, memory)
	return append(b, 4)
}

func name(b []byte) []byte { return append(append(b, byte(len(block))), block...) }

func endSection(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, end)
	return append(b, 0x7e, 0, 0, 0, 2)
}

// pages is a section of n pages, from the start of memory. Their content does
// not compress.
func pages(b []byte, n int, memory uint64) []byte {
	random := rand.NewChaCha8([32]byte{})
	b = append(b, 2, 0, 0, 0, 2)
	for i := range n {
		offset := uint64(i) * pageSize % memory
		if i == 0 {
			b = name(binary.BigEndian.AppendUint64(b, offset|data))
		} else {
			b = binary.BigEndian.AppendUint64(b, offset|data|sameBlock)
		}
		b = append(b, make([]byte, pageSize)...)
		random.Read(b[len(b)-pageSize:])
	}
	return endSection(b)
}

// checkpoint is what a QEMU with the guest stopped sends after VMStateSend.
func checkpoint(g Guest, memory uint64) []byte {
	b := pages(commands(g), g.Dirty, memory)
	if g.Fault == BadCheckpoint {
		b = name(binary.BigEndian.AppendUint64([]byte{2, 0, 0, 0, 2}, memory|data))
		return append(b, make([]byte, pageSize)...)
	}
	b = append(b, 0)
	b = colo.AppendMessage(b, colo.VMStateSize)
	size := uint64(g.Device)
	if g.Fault == LargeDevice {
		size = 1 << 40
	}
	b = binary.BigEndian.AppendUint64(b, size)
	return appendDevices(b, g.Device)
}

// appendDevices begins as QEMU's device state does: with a whole section.
func appendDevices(b []byte, size int) []byte {
	at := len(b)
	b = append(b, make([]byte, size)...)
	if size > 0 {
		b[at] = 4
	}
	return b
}

// commands begin a checkpoint: of the 10 series the beginning of a switch-over.
func commands(g Guest) []byte {
	if g.Series >= 11 {
		return nil
	}
	return []byte{8, 0, 11, 0, 0}
}

// dirty makes every page of a checkpoint another one than in the last.
func dirty(stream []byte, g Guest, epoch uint64) {
	const head = 5 // of the section
	at := len(commands(g)) + head + 8 + 1 + len(block)
	for range g.Dirty {
		binary.BigEndian.PutUint64(stream[at:], epoch)
		at += pageSize + 8
	}
}

// move makes a checkpoint's pages others than those of the one before it.
func move(stream []byte, g Guest, number int, memory uint64) {
	const head = 5 // of the section
	at := len(commands(g)) + head
	for i := range g.Dirty {
		offset := uint64(number*g.Dirty+i) * pageSize % memory
		if i == 0 {
			binary.BigEndian.PutUint64(stream[at:], offset|data)
			at += 1 + len(block)
		} else {
			binary.BigEndian.PutUint64(stream[at:], offset|data|sameBlock)
		}
		at += 8 + pageSize
	}
}
