// Package falseqemu plays as much of QEMU as a daemon asks for: a monitor and
// COLO's channel, with a guest that only dirties pages, and one that waits for a
// takeover, whose stream it checks. It stands in where hundreds of guests would
// not fit, and where QEMU has to misbehave. What it plays is told by the
// specification's "append".
package falseqemu
