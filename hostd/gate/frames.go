package gate

import (
	"github.com/stillpoint-ft/stillpoint/hostd/fifo"
	"github.com/stillpoint-ft/stillpoint/hostd/segment"
)

const vnetHeader, ethernetHead = segment.VirtioHeader, segment.EthernetHeader

// Frame is one Ethernet frame of a port, virtio header (10 bytes) first.
type Frame struct {
	Port int
	Data []byte
}

// Output is what the guest sent in one epoch. It is read-only once cut, and
// valid until its epoch is released or dropped.
type Output struct {
	Epoch uint64
	held  fifo.Queue[int] // by port
	sent  int             // frames of it that have left
}

func (o *Output) reset() {
	o.held.Drop(o.held.Len())
	o.sent = 0
}

// next adds to a batch, as far as it has room, the frames that leave next by one port.
func (o *Output) next(batch [][]byte) (port int, frames [][]byte) {
	port = *o.held.Tag(o.sent)
	for i := o.sent; i < o.Len() && len(batch) < cap(batch) && *o.held.Tag(i) == port; i++ {
		batch = append(batch, o.held.Data(i))
	}
	return port, batch
}

// Len counts the frames of the epoch.
func (o *Output) Len() int { return o.held.Len() }

// Bytes counts the held bytes, virtio headers included.
func (o *Output) Bytes() int { return o.held.Bytes() }

// At returns frame i in the order in which the guest sent them.
func (o *Output) At(i int) Frame { return Frame{Port: *o.held.Tag(i), Data: o.held.Data(i)} }
