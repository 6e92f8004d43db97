// Package standby is the standby's side of a pair: it receives the epochs of a primary,
// keeps the replica, acknowledges what it holds whole, and runs it at a takeover. What is
// to be done when, the role machine says (hostd/pair); what may leave, the voice
// (hostd/voice). Both are the caller's.
package standby
