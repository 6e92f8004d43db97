package policy

// Output says which of the frames that a protected guest sends leave before the
// epoch that sent them is committed. It is pure, and may be asked concurrently.
type Output int

const (
	// OnCommit keeps every frame until its epoch is committed.
	OnCommit Output = iota
	// AtOnce keeps none: after a takeover the network may have seen what the machine
	// does not remember.
	AtOnce
)

// Leaves says whether a frame, which begins with its Ethernet header, leaves at
// once.
func (o Output) Leaves(frame []byte) bool { return o == AtOnce }
