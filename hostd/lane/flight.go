package lane

// Flight knows the frames that a tap has taken and QEMU has not: of each, how many
// frames of its port's log came before it. The kernel passes them on in order.
type Flight struct {
	before [FlightRoom]uint64
	first  int
	n      int
	// taken is before of the last frame that QEMU took: it may wait inside QEMU while
	// others are in the tap.
	taken uint64
	// settled counts what QEMU has taken in all, as the kernel told last.
	settled uint64
}

const (
	// FlightMost is how many frames may be in a tap before more wait in the gate,
	// where their time is known.
	FlightMost = 256
	// FlightRoom is what the tap's own queue holds: it has room for the pieces of one
	// frame more, and is never full.
	FlightRoom = 1024
)

// Add says that the tap has taken a frame.
func (f *Flight) Add(before uint64) {
	f.before[(f.first+f.n)%FlightRoom] = before
	f.n++
}

// Settle takes what the kernel tells: how many frames QEMU has taken in all. It returns
// how many of them cannot have been the gate's.
func (f *Flight) Settle(total uint64) (others uint64) {
	delta := total - f.settled
	f.settled = total
	own := min(delta, uint64(f.n))
	if own > 0 {
		f.taken = f.before[(f.first+int(own)-1)%FlightRoom]
		f.first = (f.first + int(own)) % FlightRoom
		f.n -= int(own)
	}
	return delta - own
}

// Start says how many frames QEMU had taken before any of this gate's.
func (f *Flight) Start(total uint64) { f.settled = total }

// Len counts the frames in the tap.
func (f *Flight) Len() int { return f.n }

// Taken is how many frames of the log came before the last one that QEMU took.
func (f *Flight) Taken() uint64 { return f.taken }

// Settled counts what QEMU has taken in all, as the kernel told last.
func (f *Flight) Settled() uint64 { return f.settled }

// Begin says that the log begins now: what is in the tap precedes it.
func (f *Flight) Begin() {
	clear(f.before[:])
	f.taken = 0
}

// Empty says that what was in the tap is gone, and that so many frames of the log
// need not be handed in any more.
func (f *Flight) Empty(passed uint64) { f.n, f.taken = 0, passed }
