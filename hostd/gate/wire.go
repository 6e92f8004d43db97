package gate

import (
	"github.com/stillpoint-ft/stillpoint/hostd/lane"
	"github.com/stillpoint-ft/stillpoint/hostd/netdev"
)

// sendBatch is how many frames a wire takes at once.
const sendBatch = netdev.Batch

// Wires open the interfaces that a gate's ports name.
type Wires interface {
	Open(name string) (Wire, error)
	// OpenTap opens the near end of a tap. Nothing is in it then, and nothing gets into
	// it but what is handed in.
	OpenTap(name string) (Tap, error)
	// Close is called once, after every wire was closed.
	Close()
}

// Wire is one interface. Frames pass with their virtio header (10 bytes). One
// goroutine at a time may receive, any may send.
type Wire interface {
	// Await calls drain with what to receive from whenever frames may be readable,
	// until it fails, and returns its error; nil when the wire was closed.
	Await(drain func(fd int) error) error
	// Now calls drain once, unless the wire was closed. It is called by who may
	// receive.
	Now(drain func(fd int))
	// Receive reads one frame into b, or reports again when nothing is readable. Of a
	// frame that it has read and cannot give it returns ErrUncarried.
	Receive(fd int, b []byte) (n int, again bool, err error)
	// Offer writes at most 32 frames, in order, as many as leave at once; it never
	// waits. It returns with how many of the first it is done, how many of these are
	// lost, and why the last of them is; full says that the rest may be tried again.
	// It does not keep them.
	Offer(frames [][]byte) (done, lost int, full bool, err error)
	// Overrun counts the frames that came, and were dropped because what was there
	// before had not been received. It may be called at any time.
	Overrun() uint64
	Close()
}

// Tap is the near end of a tap, of which QEMU has the far end.
type Tap interface {
	Wire
	// HandIn gives QEMU at most 32 frames, in order, as far as the tap takes them, and
	// never waits. It returns how many that were and why the next was refused: ErrFull,
	// ErrDown, ErrGone, or what will always be in its way. It does not keep them.
	HandIn(frames [][]byte) (n int, err error)
	// Taken counts the frames that QEMU has taken of those that were handed in, from any
	// number on. Of a tap that was removed it returns ErrGone.
	Taken() (uint64, error)
	// Empty drops the frames that QEMU has not taken.
	Empty() error
}

// ErrUncarried says that a frame was read that the gate cannot carry. Others follow.
var ErrUncarried = netdev.ErrUncarried

// ErrFull says that a tap has no room for a frame now.
var ErrFull = netdev.ErrFull

// ErrDown says that a tap takes nothing until it is up again.
var ErrDown = netdev.ErrDown

// ErrGone says that a tap was removed, with what was in it. QEMU takes nothing any more.
var ErrGone = netdev.ErrGone

// interfaces are this host's.
type interfaces struct{ counts *netdev.Counts }

func openInterfaces() (*interfaces, error) {
	counts, err := netdev.OpenCounts()
	return &interfaces{counts}, err
}

func (i *interfaces) Open(name string) (Wire, error) {
	s, err := netdev.Open(name)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (i *interfaces) OpenTap(name string) (Tap, error) {
	t, err := netdev.OpenTap(name, lane.FlightRoom, i.counts)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (i *interfaces) Close() { i.counts.Close() }
