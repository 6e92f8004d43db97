package gate

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// What stands for many segments inside a tunnel is cut where it is read, because
// the virtio header, with which everything passes on, to the tap, the uplink, the
// log and the standby, cannot tell of a tunnel. SCTP's checksum it cannot tell of, either.

// arrive takes a frame from an uplink.
func (g *Gate) arrive(p *port, frame []byte) {
	if g.in.mode != dropping {
		finishSCTP(frame)
	}
	if g.in.mode == dropping || !tunnelled(frame) {
		g.accept(p, frame)
		return
	}
	c := &p.fromUplinkCut
	if err := c.cut(frame); err != nil {
		g.uncarriedFrame(p, p.Uplink, len(frame), err)
		return
	}
	for i := range c.pieces.Len() { // who has called feeds them together
		if piece := c.pieces.Data(i); g.roomFor(p, piece) {
			g.keep(p, piece)
		} else {
			g.stats.inputDropped.Add(1)
		}
	}
}

// leave takes a frame from a tap.
func (g *Gate) leave(p *port, frame []byte) {
	finishSCTP(frame)
	if !tunnelled(frame) {
		g.emit(p.index, frame)
		return
	}
	c := &p.fromTapCut
	if err := c.cut(frame); err != nil {
		g.uncarriedFrame(p, p.Tap, len(frame), err)
		return
	}
	if g.out.mode != passing {
		for i := range c.pieces.Len() {
			g.emit(p.index, c.pieces.Data(i))
		}
		return
	}
	for i := 0; i < c.pieces.Len(); {
		batch := c.some(g.out.batch[:0], i)
		g.transmit(p.index, time.Time{}, &g.stats.released, batch...)
		i += len(batch)
	}
}

// uncarriedFrame counts a frame that is lost, and says so once for each port.
func (g *Gate) uncarriedFrame(p *port, name string, size int, err error) {
	g.stats.uncarried.Add(1)
	if !p.toldUncarried.Swap(true) {
		g.log.Warn("a frame cannot be carried between the guest and the network; it was dropped, and others like it will be: switch the offload off where it comes from",
			"port", p.Name, "interface", name, "bytes", max(0, size-vnetHeader), "error", err)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// finishSCTP completes a checksum that whoever reads the virtio header would take for
// a sum of 16 bits: of the known protocols only SCTP's is 8 bytes from its header.
func finishSCTP(frame []byte) {
	native := binary.NativeEndian
	if frame[vnetFlags]&needsChecksum == 0 || native.Uint16(frame[vnetChecksumOffset:]) != 8 {
		return
	}
	start := vnetHeader + int(native.Uint16(frame[vnetChecksumStart:]))
	if start+12 > len(frame) {
		return
	}
	clear(frame[start+8 : start+12])
	binary.LittleEndian.PutUint32(frame[start+8:], crc32.Checksum(frame[start:], castagnoli))
	frame[vnetFlags] &^= needsChecksum
	native.PutUint16(frame[vnetChecksumStart:], 0)
	native.PutUint16(frame[vnetChecksumOffset:], 0)
}
