package gate

// flight knows the frames that a tap has taken and QEMU has not: of each, how many
// frames of its port's log came before it. The kernel passes them on in order.
type flight struct {
	before [flightRoom]uint64
	first  int
	n      int
	// taken is before of the last frame that QEMU took: it may wait inside QEMU while
	// others are in the tap.
	taken uint64
	// settled counts what QEMU has taken in all, as the kernel told last.
	settled uint64
}

const (
	// flightMost is how many frames may be in a tap before more wait in the gate,
	// where their time is known.
	flightMost = 256
	// flightRoom is what the tap's own queue holds: it has room for the pieces of one
	// frame more, and is never full.
	flightRoom = 1024
	// piecesMost is into how many pieces a frame may be cut.
	piecesMost = flightRoom - flightMost
)

func (f *flight) add(before uint64) {
	f.before[(f.first+f.n)%flightRoom] = before
	f.n++
}

// settle takes what the kernel tells: how many frames QEMU has taken in all. It returns
// how many of them cannot have been the gate's.
func (f *flight) settle(total uint64) (others uint64) {
	delta := total - f.settled
	f.settled = total
	own := min(delta, uint64(f.n))
	if own > 0 {
		f.taken = f.before[(f.first+int(own)-1)%flightRoom]
		f.first = (f.first + int(own)) % flightRoom
		f.n -= int(own)
	}
	return delta - own
}

// begin says that the log begins now: what is in the tap precedes it.
func (f *flight) begin() {
	clear(f.before[:])
	f.taken = 0
}

// empty says that what was in the tap is gone, and that so many frames of the log
// need not be handed in any more.
func (f *flight) empty(passed uint64) { f.n, f.taken = 0, passed }
