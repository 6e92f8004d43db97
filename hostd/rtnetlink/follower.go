package rtnetlink

import "golang.org/x/sys/unix"

// States of an interface.
const (
	Up, Down, NoCarrier, Gone = "up", "down", "no carrier", "gone"
)

// Message is what the kernel says of an interface.
type Message struct {
	Index   int
	Name    string
	Flags   uint32
	Deleted bool
}

func (m Message) state() string {
	switch {
	case m.Flags&unix.IFF_UP == 0:
		return Down
	case m.Flags&unix.IFF_LOWER_UP == 0, m.Flags&(unix.IFF_RUNNING|unix.IFF_DORMANT) == 0:
		return NoCarrier // or one that has just come: the queue still drops all
	}
	return Up
}

// Follower follows one interface, which is up at first: by its index as long as it is
// there, which a rename does not end, and an uplink by its name once it is gone.
type Follower struct {
	Name  string
	Index int
	Tap   bool
	State string
	// unsure: messages were lost, so the index may be another interface's by now.
	unsure, seen bool
}

// Hear takes a message and says whether the socket has to be bound anew.
func (u *Follower) Hear(m Message) (bind bool) {
	own := u.State != Gone && m.Index == u.Index
	switch {
	case m.Deleted:
		if own {
			u.State = Gone
		}
		return false
	case own:
		bind = u.unsure && !u.Tap
	case u.State == Gone && m.Name == u.Name && !u.Tap:
		bind = true
	default:
		return false
	}
	u.Index, u.State, u.unsure, u.seen = m.Index, m.state(), false, true
	if u.Tap && u.State == NoCarrier { // its QEMU ends, which others tell
		u.State = Up
	}
	return bind
}

// Listed says that all interfaces have been told of. One that was not among them is
// gone, which is asked about again by name.
func (u *Follower) Listed() (again bool) {
	again = !u.seen && u.State != Gone
	if again {
		u.State = Gone
	}
	u.seen = false
	return again
}

// Lost says that messages were, and that all interfaces will be listed anew.
func (u *Follower) Lost() { u.unsure, u.seen = true, false }
