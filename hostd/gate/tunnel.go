package gate

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/segment"
)

// What stands for many segments inside a tunnel is cut where it is read, because
// the virtio header, with which everything passes on, to the tap, the uplink, the
// log and the standby, cannot tell of a tunnel. SCTP's checksum it cannot tell of, either.

// arrive takes a frame from an uplink.
func (g *Gate) arrive(p *port, frame []byte) {
	if g.in.mode != dropping {
		segment.FinishSCTP(frame)
	}
	if g.in.mode == dropping || !segment.Tunnelled(frame) {
		g.accept(p, frame)
		return
	}
	c := &p.fromUplinkCut
	if err := c.Cut(frame); err != nil {
		g.uncarriedFrame(p, p.Uplink, len(frame), err)
		return
	}
	for i := range c.Len() { // who has called feeds them together
		if piece := c.Piece(i); g.roomFor(p, piece) {
			g.keep(p, piece)
		} else {
			g.stats.inputDropped.Add(1)
		}
	}
}

// leave takes a frame from a tap.
func (g *Gate) leave(p *port, frame []byte) {
	segment.FinishSCTP(frame)
	if !segment.Tunnelled(frame) {
		g.emit(p.index, frame)
		return
	}
	c := &p.fromTapCut
	if err := c.Cut(frame); err != nil {
		g.uncarriedFrame(p, p.Tap, len(frame), err)
		return
	}
	if g.out.mode != passing {
		for i := range c.Len() {
			g.emit(p.index, c.Piece(i))
		}
		return
	}
	for i := 0; i < c.Len(); {
		batch := c.Batch(g.out.batch[:0], i)
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
