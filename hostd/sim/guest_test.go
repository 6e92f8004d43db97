package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

const (
	guestPages = 8
	pageSize   = colo.PageSize
	magic      = "this is the guest's device state"
)

// guest is what a QEMU runs: it is at a node of the oracle's tree, and its memory
// says at which. Page 0 holds the number of the node, each other page that of the
// last node that was its turn, so that memory of more than one moment is noticed.
type guest struct {
	now   *node
	page  [guestPages]*node
	dirty [guestPages]bool
}

func newGuest(n *node) *guest {
	g := &guest{}
	for i := range g.page {
		g.page[i] = n
	}
	g.now = n
	return g
}

func turn(n *node) int { return 1 + n.depth%(guestPages-1) }

func (g *guest) step(n *node) {
	g.now = n
	for _, i := range []int{0, turn(n)} {
		g.page[i], g.dirty[i] = n, true
	}
}

// page is one page as it goes over QEMU's stream.
type page struct {
	offset uint64
	n      *node
}

// pages that were written since the last call, or all. There is always one.
func (g *guest) pages(all bool) (list []page) {
	for i, n := range g.page {
		if all || g.dirty[i] || i == 0 {
			list = append(list, page{uint64(i) * pageSize, n})
		}
		g.dirty[i] = false
	}
	return list
}

// loadGuest finds out which moment of the guest a takeover has been given.
func loadGuest(o *oracle, stream []byte, ramFile string) (*guest, error) {
	at := bytes.Index(stream, []byte(magic))
	if at < 0 {
		return nil, fmt.Errorf("no device state in %d bytes", len(stream))
	}
	n := o.node(binary.BigEndian.Uint64(stream[at+len(magic):]))
	f, err := os.Open(ramFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	g := &guest{now: n}
	var b [8]byte
	for i := range g.page {
		if _, err := f.ReadAt(b[:], int64(i)*pageSize); err != nil {
			return nil, err
		}
		g.page[i] = o.node(binary.BigEndian.Uint64(b[:]))
		if want := written(n, i); g.page[i] != want {
			return nil, fmt.Errorf("devices are of %v, page %d is of %v and not %v", n, i, g.page[i], want)
		}
	}
	return g, nil
}

// written is the node of page i when the guest is at n.
func written(n *node, i int) *node {
	for ; i > 0 && n.parent != nil && turn(n) != i; n = n.parent {
	}
	return n
}

// QEMU's stream, as proto/colo reads it.
const (
	flagSize, flagPage, flagEnd, flagContinue = 0x04, 0x08, 0x10, 0x20
	block                                     = "ram0"
)

func streamHead() []byte {
	b := binary.BigEndian.AppendUint32(nil, 0x5145564d)
	b = binary.BigEndian.AppendUint32(b, 3)
	b = append(b, "\x07\x00\x00\x00\x04pc-1\x01\x00\x00\x00\x02\x03ram\x00\x00\x00\x00\x00\x00\x00\x04"...)
	b = binary.BigEndian.AppendUint64(b, memory|flagSize)
	b = append(append(b, byte(len(block))), block...)
	b = binary.BigEndian.AppendUint64(b, memory)
	return endSection(b)
}

func endSection(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, flagEnd)
	return append(b, 0x7e, 0, 0, 0, 2)
}

func appendPages(b []byte, pages []page) []byte {
	b = append(b, 2, 0, 0, 0, 2)
	for i, p := range pages {
		if i == 0 {
			b = binary.BigEndian.AppendUint64(b, p.offset|flagPage)
			b = append(append(b, byte(len(block))), block...)
		} else {
			b = binary.BigEndian.AppendUint64(b, p.offset|flagPage|flagContinue)
		}
		b = binary.BigEndian.AppendUint64(b, p.n.id)
		b = append(b, make([]byte, pageSize-8)...)
	}
	return endSection(b)
}

func appendDevice(b []byte, n *node) []byte {
	b = colo.AppendMessage(b, colo.VMStateSize)
	b = binary.BigEndian.AppendUint64(b, uint64(len(magic)+8))
	b = append(b, magic...)
	return binary.BigEndian.AppendUint64(b, n.id)
}

// frames: the virtio header, Ethernet, and the number of a node or of an input.
const (
	headers             = 10 + 14
	typeAt              = 10 + 12
	typeOutput, typeIn  = 0x88b5, 0x88b6
	guestMAC, remoteMAC = "\x52\x54\x00\x01\x02\x03", "\x52\x54\x00\x09\x09\x09"
)

func frameOf(to, from string, kind uint16, number uint64) []byte {
	b := append(make([]byte, 10), to+from...)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, number)
	return append(b, make([]byte, 38)...)
}

func outputFrame(n *node) []byte { return frameOf(remoteMAC, guestMAC, typeOutput, n.id) }

func inputFrame(number uint64) []byte { return frameOf(guestMAC, remoteMAC, typeIn, number) }

func kindOf(frame []byte) uint16 { return binary.BigEndian.Uint16(frame[typeAt:]) }

func numberOf(frame []byte) uint64 { return binary.BigEndian.Uint64(frame[headers:]) }
