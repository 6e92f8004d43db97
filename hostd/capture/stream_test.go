package capture_test

import (
	"bytes"
	"encoding/binary"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

const (
	pageSize  = 4096
	mainPages = 8
)

// stream is what a false QEMU sends, and where its structure lies: the bytes
// of pages are as good one as another.
type stream struct {
	bytes.Buffer
	structure []int
}

func (s *stream) put(b ...byte) {
	for i := range b {
		s.structure = append(s.structure, s.Len()+i)
	}
	s.Write(b)
}

func (s *stream) u32(v uint32) { s.put(binary.BigEndian.AppendUint32(nil, v)...) }
func (s *stream) u64(v uint64) { s.put(binary.BigEndian.AppendUint64(nil, v)...) }
func (s *stream) name(n string) {
	s.put(byte(len(n)))
	s.put([]byte(n)...)
}

func (s *stream) page(block string, offset uint64, fill byte) {
	s.u64(offset | 0x08)
	s.name(block)
	s.Write(bytes.Repeat([]byte{fill}, pageSize))
}

func (s *stream) zero(block string, offset uint64) {
	s.u64(offset | 0x02)
	s.name(block)
	s.put(0)
}

func (s *stream) footer() {
	s.u64(0x10)
	s.put(0x7e)
	s.u32(2)
}

func (s *stream) part(kind byte) {
	s.put(kind)
	s.u32(2)
}

// firstCopy is the migration that opens the channel, up to the byte that
// begins device state.
func firstCopy() *stream {
	s := new(stream)
	s.u32(0x5145564d)
	s.u32(3)
	s.put(7)
	s.u32(4)
	s.put([]byte("pc-1")...)
	s.put(1)
	s.u32(2)
	s.name("ram")
	s.u32(0)
	s.u32(4)
	s.u64((mainPages+1)*pageSize | 0x04)
	s.name("ram0")
	s.u64(mainPages * pageSize)
	s.name("bios")
	s.u64(pageSize)
	s.footer()
	s.part(2)
	for i := range uint64(mainPages) {
		s.zero("ram0", i*pageSize)
	}
	s.page("bios", 0, 0xb1)
	s.footer()
	s.part(3)
	s.page("ram0", 0, 0xa1)
	s.footer()
	s.put(4)
	return s
}

// checkpoint is what follows VMSTATE_SEND.
func checkpoint(device int) *stream {
	s := new(stream)
	s.put(8, 0, 11, 0, 0) // a command section, as 10.0 sends it
	s.part(2)
	s.page("ram0", 2*pageSize, 0xc2)
	s.zero("ram0", 3*pageSize)
	s.footer()
	s.put(0)
	s.u32(uint32(colo.VMStateSize))
	s.u64(uint64(device))
	s.Write(bytes.Repeat([]byte{0xde}, device))
	return s
}

const deviceBytes = 64

// seed plays the first copy up to COLO's own first message.
func (p *peer) seed() error {
	if err := p.send(firstCopy().Bytes()); err != nil {
		return err
	}
	if err := p.send(bytes.Repeat([]byte{0xdd}, 100)); err != nil { // devices
		return err
	}
	p.q.say("STOP", false)
	p.q.enter("colo")
	if err := p.expect(colo.CheckpointReady); err != nil {
		return err
	}
	p.q.say("RESUME", true)
	return nil
}

// checkpoint plays one, to the guest's resume.
func (p *peer) checkpoint(content []byte) error {
	if err := p.message(colo.CheckpointRequest); err != nil {
		return err
	}
	if err := p.expect(colo.CheckpointReply); err != nil {
		return err
	}
	p.q.say("STOP", false)
	if err := p.message(colo.VMStateSend); err != nil {
		return err
	}
	if err := p.send(content); err != nil {
		return err
	}
	if err := p.expect(colo.VMStateReceived, colo.VMStateLoaded); err != nil {
		return err
	}
	p.q.say("RESUME", true)
	return nil
}

// good plays a number of checkpoints, and hangs up.
func good(checkpoints int) func(*peer) error {
	return func(p *peer) error {
		if err := p.seed(); err != nil {
			return err
		}
		for range checkpoints {
			if err := p.checkpoint(checkpoint(deviceBytes).Bytes()); err != nil {
				return err
			}
		}
		return nil
	}
}
