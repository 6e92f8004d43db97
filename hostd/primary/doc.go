// Package primary is the primary's side of a pair: it makes the first copy, takes
// checkpoints, ships each to the standby and has its output released once that is
// committed. What is to be done when, the role machine says (hostd/pair); what may leave,
// the voice (hostd/voice). Both are the caller's.
package primary
