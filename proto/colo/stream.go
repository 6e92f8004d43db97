package colo

import "errors"

// PageSize is the unit of memory in the stream, in bytes.
const PageSize = 4096

// The file header (QEMU_VM_FILE_MAGIC, QEMU_VM_FILE_VERSION).
const (
	fileMagic   = 0x5145564d // "QEVM"
	fileVersion = 3
)

// The types of sections (QEMU_VM_* in migration/savevm.h).
const (
	sectionEOF           = 0
	sectionStart         = 1
	sectionPart          = 2
	sectionEnd           = 3
	sectionFull          = 4
	sectionSubsection    = 5
	sectionDescription   = 6
	sectionConfiguration = 7
	sectionCommand       = 8
	sectionFooter        = 0x7e
)

// The flags in the low bits of a RAM record (RAM_SAVE_FLAG_* in
// migration/ram.c); the other bits are the offset in the block.
const (
	flagZero     = 0x02
	flagSize     = 0x04
	flagPage     = 0x08
	flagEnd      = 0x10
	flagContinue = 0x20
	flagMask     = PageSize - 1
)

const (
	ramName            = "ram"
	capIgnoreShared    = "x-ignore-shared"
	configCapabilities = "configuration/capabilities"
	configPageBits     = "configuration/target-page-bits"
	configUUID         = "configuration/uuid"
	pageBits           = 12
)

// Bounds that no real stream comes near.
const (
	maxName         = 255 // what a counted string can hold; also of machine names
	maxCapabilities = 64
	maxCommand      = 4096 // payload of a command section, in bytes
	cmdPackaged     = 7    // MIG_CMD_PACKAGED, whose length lies in its payload
)

var (
	// ErrMalformed is in every error that says that the stream breaks its format.
	ErrMalformed = errors.New("malformed stream")
	// ErrLimit is in every error that says that something exceeds [Limits].
	ErrLimit = errors.New("over the limit")
)

// A Block is one RAM block of the machine.
type Block struct {
	Name string // at most 255 bytes
	Size uint64 // bytes, a multiple of [PageSize]
}

// A Section says how the stream numbers the section "ram". A takeover must
// repeat it.
type Section struct{ ID, Instance, Version uint32 }

// Limits bounds what a [Reader] accepts.
type Limits struct {
	Blocks      int    // RAM blocks
	RAM         uint64 // bytes, all RAM blocks together
	DeviceState uint64 // bytes of one device state
}

// DefaultLimits fits any machine of up to 1 TiB.
func DefaultLimits() Limits {
	return Limits{Blocks: 1024, RAM: 1 << 40, DeviceState: 16 << 20}
}

// A Header is what a migration stream says of its machine.
type Header struct {
	Machine      string   // QEMU's full machine name, e.g. pc-i440fx-10.0
	Capabilities []string // those that change the format, e.g. x-ignore-shared
}

// A Sink takes the memory that a [Reader] finds. Its methods are called by
// the goroutine that called the reader. An error ends the reading and is
// returned, wrapped.
type Sink interface {
	// Blocks is called once per stream, before any page of it. The slice
	// stays the reader's: do not change it.
	Blocks([]Block) error
	// Page returns the PageSize bytes into which the page at offset of a
	// block is read. block counts as in the slice given to Blocks; offset is
	// in bytes, page-aligned and inside the block. The bytes must stay
	// untouched until the next call or the end of the reading.
	Page(block int, offset uint64) ([]byte, error)
	// Zero says that the page at offset of a block is all zeros.
	Zero(block int, offset uint64) error
}
