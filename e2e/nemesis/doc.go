// Package nemesis breaks a protected pair at random, again and again, and
// judges from outside whether the two promises hold: what the machine accepted
// is not lost or contradicted, and never do two hosts speak for it.
//
// A run is a number of rounds. In each the pair is protected to begin with;
// then up to two disturbances (a slow link, a full disk, a member of the
// arbiter gone, or without its database) and one fault (something killed, stopped or cut off) happen at
// random times, and everything is healed: a member that was emptied is replaced, as
// its manual says. The pair must come back by itself, but for a machine that a daemon
// has failed to adopt ten times: that one an operator starts, and it goes on as it was.
// At most one fault of a round takes a copy of the machine away: two at once
// are more than a pair survives.
//
// In half of the rounds an operator has a wish in the midst of it: to stop the
// machine, also amid a takeover, and start it again, on either host, to end or make a protection, to move it.
// It may be refused. A host that says that it has stopped the machine has to be silent
// until it is started again; what is lost meanwhile is no loss, and a machine that is
// started knows nothing of the one before it, so each is judged for itself. A wish and a
// fault together may cost the machine: it is started anew then, and only then.
//
// All choices follow from the seed. What they meet does not: processes run as
// they like.
package nemesis
