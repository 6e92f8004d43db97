package supervise

// Record is what the arbiter says about a machine.
type Record struct {
	// Generation counts from 1; 0 means that there is no record.
	Generation uint64
	// Voice is the host that may release output; empty if none may.
	Voice string
	// Standby is the host that may claim to take over; empty if none.
	Standby string
}

// guestState is how QEMU has left its guest.
type guestState int

const (
	// unknown: the monitor is not open or does not answer.
	unknown guestState = iota
	// loose: the guest is neither in COLO nor stopped by a migration.
	loose
	// stuck: it is, and will stay so.
	stuck
)

// action on a machine without a daemon.
type action int

const (
	wait  action = iota // look again later
	kill                // fence QEMU
	claim               // ask the arbiter to go on without the standby
	free                // let the guest run
)

// decide what to do with a machine whose daemon is gone. A guest is freed only
// where no other host can win the voice any more: the record gives it to this
// host and names no standby.
func decide(r Record, host string, guest guestState) action {
	switch {
	case r.Generation == 0:
		return wait // nobody ever spoke: nothing was decided
	case r.Voice != host:
		return kill // another host's, or nobody's: it was stopped
	case guest == loose:
		return wait // nothing to free, so nothing to take from the standby
	case r.Standby != "":
		return claim
	}
	return free
}
