// Package fault labels the steps at which a daemon can die with different
// consequences, so that a test can stop it at exactly one of them. In an
// ordinary build a hook does nothing.
package fault

// Hook is called at a labelled step of an epoch and returns when the daemon
// may go on. It may be called concurrently.
type Hook func(label string, epoch uint64)

// The labels, in the order in which a checkpoint passes them.
const (
	Requested  = "requested"   // QEMU stands by, the checkpoint is due
	Quiescing  = "quiescing"   // arriving packets wait, the agent is being asked
	Stopped    = "stopped"     // the guest is stopped, its output is cut
	Copying    = "copying"     // QEMU is sending memory, nothing of it is read
	Copied     = "copied"      // memory is read, devices are copied, the guest is still stopped
	Shipping   = "shipping"    // the guest runs again, the epoch is not sent yet
	Sent       = "sent"        // the epoch is sent, not yet acknowledged
	Committing = "committing"  // acknowledged, its output not yet released
	Storing    = "storing"     // standby: the epoch is whole, not yet acknowledged
	Applying   = "applying"    // standby: acknowledged, not yet applied
	Applied    = "applied"     // standby: the replica is the epoch
	TakingOver = "taking-over" // standby: the right is won, the guest does not run yet
)

// None is the hook of an ordinary build.
func None(string, uint64) {}
