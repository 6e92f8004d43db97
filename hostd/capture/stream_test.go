package capture_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

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
func firstCopy(series int) *stream { return firstCopyOf(series, mainPages, 1) }

// firstCopyOf is the first copy of so many pages, some of which are in the part that
// is sent with the guest stopped.
func firstCopyOf(series int, memory uint64, ending int) *stream {
	s := new(stream)
	s.u32(0x5145564d)
	s.u32(3)
	s.put(7)
	s.u32(4)
	s.put([]byte("pc-1")...)
	if series >= 11 {
		s.put(8, 0, 1, 0, 0)             // open the return path
		s.put(8, 0, 2, 0, 4, 0, 0, 0, 1) // ping
	} else {
		s.put(8, 0, 8, 0, 0) // enable COLO
	}
	s.put(1)
	s.u32(2)
	s.name("ram")
	s.u32(0)
	s.u32(4)
	s.u64((memory+1)*pageSize | 0x04)
	s.name("ram0")
	s.u64(memory * pageSize)
	s.name("bios")
	s.u64(pageSize)
	s.footer()
	s.part(2)
	for i := range memory {
		s.zero("ram0", i*pageSize)
	}
	s.page("bios", 0, 0xb1)
	s.footer()
	s.part(3)
	for i := ending - 1; i >= 0; i-- {
		s.page("ram0", uint64(i)*pageSize, 0xa1)
	}
	s.footer()
	s.put(4)
	return s
}

// checkpoint is what follows VMSTATE_SEND.
func checkpoint(series, device int) *stream {
	s := new(stream)
	if series < 11 {
		s.put(8, 0, 11, 0, 0) // begin the switch-over
	}
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
	if err := p.send(firstCopy(p.q.series).Bytes()); err != nil {
		return err
	}
	return p.enterCOLO(100)
}

// enterCOLO plays the end of the first copy, with so many bytes of devices.
func (p *peer) enterCOLO(device int) error {
	p.q.say("STOP", false)
	if err := p.locked(bytes.Repeat([]byte{0xdd}, device)); err != nil {
		return err
	}
	if p.q.series >= 11 {
		if err := p.returnPathEnds(); err != nil {
			return err
		}
	}
	p.q.enter("colo")
	if err := p.expect(colo.CheckpointReady); err != nil {
		return err
	}
	p.q.say("RESUME", true)
	return nil
}

func (p *peer) returnPathEnds() error {
	var b [8]byte
	if _, err := io.ReadFull(p.Conn, b[:]); err != nil {
		return err
	}
	if want := [8]byte{1: 1, 3: 4}; b != want {
		return fmt.Errorf("the daemon sent % x as the end of the return path", b)
	}
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
	if err := p.locked(content); err != nil {
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
			if err := p.checkpoint(checkpoint(p.q.series, deviceBytes).Bytes()); err != nil {
				return err
			}
		}
		return nil
	}
}
