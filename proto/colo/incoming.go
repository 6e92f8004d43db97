package colo

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// An IncomingBlock is a RAM block of a machine that is taken over.
type IncomingBlock struct {
	Block
	Shared bool   // its memory is a shared file that is in place already
	Data   []byte // Size bytes if not Shared; not used otherwise
}

// Incoming is a machine at the moment of its last committed checkpoint.
type Incoming struct {
	Machine string          // as in the primary's [Header]
	RAM     Section         // as [Reader.Section] found it
	Blocks  []IncomingBlock // in the order of the primary's block list
	Device  []byte          // as [Reader.DeviceState] gave it, unchanged
}

// WriteIncoming writes to w the migration stream from which a QEMU takes the
// machine over. It must wait in `-incoming defer` with the capability
// x-ignore-shared, and the shared blocks must be complete. Nothing is written
// if in is not a whole machine.
//
// The stream ends with an empty description: without one QEMU waits for ever.
func WriteIncoming(w io.Writer, in Incoming) error {
	if err := in.check(); err != nil {
		return fmt.Errorf("colo: write the takeover stream of %q: %w", in.Machine, err)
	}
	s := &streamWriter{w: bufio.NewWriterSize(w, bufferSize)}
	s.header(in.Machine)
	s.ramStart(in.RAM, in.Blocks)
	s.ramEnd(in.RAM, in.Blocks)
	s.bytes(in.Device)
	s.u8(sectionDescription)
	s.u32(2)
	s.bytes([]byte("{}"))
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("colo: write the takeover stream of %q: %w", in.Machine, err)
	}
	return nil
}

func (in *Incoming) check() error {
	if n := len(in.Machine); n == 0 || n > maxName {
		return fmt.Errorf("machine name of %d bytes", n)
	}
	if len(in.Blocks) == 0 || len(in.Device) == 0 {
		return fmt.Errorf("%d RAM blocks and %d bytes of device state", len(in.Blocks), len(in.Device))
	}
	for i := range in.Blocks {
		if err := in.Blocks[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (b *IncomingBlock) check() error {
	if len(b.Name) == 0 || len(b.Name) > maxName {
		return fmt.Errorf("block name of %d bytes", len(b.Name))
	}
	if b.Size%PageSize != 0 {
		return fmt.Errorf("block %q of %d bytes, which are no whole pages", b.Name, b.Size)
	}
	if !b.Shared && uint64(len(b.Data)) != b.Size {
		return fmt.Errorf("%d bytes of block %q, which has %d", len(b.Data), b.Name, b.Size)
	}
	return nil
}

// A streamWriter leaves errors to its bufio.Writer, which keeps the first one
// for Flush.
type streamWriter struct{ w *bufio.Writer }

func (s *streamWriter) header(machine string) {
	s.u32(fileMagic)
	s.u32(fileVersion)
	s.u8(sectionConfiguration)
	s.u32(uint32(len(machine)))
	s.bytes([]byte(machine))
	s.u8(sectionSubsection)
	s.counted(configCapabilities)
	s.u32(1) // version
	s.u32(1) // capabilities
	s.counted(capIgnoreShared)
}

func (s *streamWriter) ramStart(ram Section, blocks []IncomingBlock) {
	s.u8(sectionStart)
	s.u32(ram.ID)
	s.counted(ramName)
	s.u32(ram.Instance)
	s.u32(ram.Version)
	var total uint64
	for i := range blocks {
		total += blocks[i].Size
	}
	s.u64(total | flagSize)
	for i := range blocks {
		s.counted(blocks[i].Name)
		s.u64(blocks[i].Size)
		s.u64(0) // the guest address, compared for shared blocks only: RAM begins at 0
	}
	s.endSection(ram)
}

func (s *streamWriter) ramEnd(ram Section, blocks []IncomingBlock) {
	s.u8(sectionEnd)
	s.u32(ram.ID)
	for i := range blocks {
		if !blocks[i].Shared {
			s.pages(&blocks[i])
		}
	}
	s.endSection(ram)
}

// pages writes every page in full, zeros too: these blocks are small.
func (s *streamWriter) pages(b *IncomingBlock) {
	for offset := uint64(0); offset < b.Size; offset += PageSize {
		if offset == 0 {
			s.u64(flagPage)
			s.counted(b.Name)
		} else {
			s.u64(offset | flagPage | flagContinue)
		}
		s.bytes(b.Data[offset : offset+PageSize])
	}
}

func (s *streamWriter) endSection(ram Section) {
	s.u64(flagEnd)
	s.u8(sectionFooter)
	s.u32(ram.ID)
}

func (s *streamWriter) bytes(b []byte) { s.w.Write(b) }
func (s *streamWriter) u8(v byte)      { s.w.WriteByte(v) }
func (s *streamWriter) u32(v uint32) {
	s.w.Write(binary.BigEndian.AppendUint32(s.w.AvailableBuffer(), v))
}
func (s *streamWriter) u64(v uint64) {
	s.w.Write(binary.BigEndian.AppendUint64(s.w.AvailableBuffer(), v))
}

// counted writes a string of at most 255 bytes with its length byte.
func (s *streamWriter) counted(v string) {
	s.u8(byte(len(v)))
	s.w.WriteString(v)
}
