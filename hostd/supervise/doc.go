// Package supervise is a small process beside the daemon that outlives it. For
// each machine it holds what is needed when the daemon is gone: a monitor of
// its QEMU on which out-of-band commands are negotiated, and a pidfd.
//
// QEMU never leaves COLO by itself: a guest whose daemon dies in a checkpoint
// stays stopped. The supervisor frees it when, and only when, the arbiter gives
// this host the voice, and kills QEMU where the arbiter gives it to another
// host or to none. While a daemon beats it does nothing to any machine. A
// machine without a daemon is silent all the same: the daemon is its only wire.
//
// # Protocol
//
// JSON objects, one a line, over a unix socket that only the supervisor's own
// user may open. With its first operation a new connection replaces the one
// before. The supervisor begins:
//
//	{"greeting":{"version":1,"pid":4711,"silence_ms":2000}}
//
// The daemon sends operations with an id of its choice, which the answer
// repeats:
//
//	{"id":1,"op":"watch","machine":"nat","pid":4712,"monitor":"/run/stillpoint/nat.oob","started":8154,"generation":7}
//	{"id":2,"op":"beat"}
//	{"id":3,"op":"yank","machine":"nat"}
//	{"id":4,"op":"list"}
//	{"id":5,"op":"forget","machine":"nat"}
//	{"id":6,"op":"leave"}
//
//	{"id":1,"ok":true}
//	{"id":3,"error":"no machine nat is watched"}
//	{"id":4,"ok":true,"machines":[{"machine":"nat","pid":4712,"monitor":"...","connected":true}]}
//
// started is when the process began, in clock ticks: if another one has its number
// by now, it is not watched. generation is the last one that the daemon knows to have
// stood: an arbiter that says an older one, or none, is not believed. Both may be
// left out. watch may be repeated; with another pid or monitor it replaces what was
// watched under that name. Each operation counts as a beat; a daemon that says
// nothing for silence_ms is taken for stopped. What the supervisor was doing
// without a daemon has ended before it answers. After leave it hangs
// up, and the rules are those for a daemon that died. When a QEMU has ended it
// is forgotten, and the daemon told:
//
//	{"ended":{"machine":"nat","pid":4712}}
//
// The version rises when an operation changes its meaning. Fields that are not
// known are ignored, operations that are not known are answered with an error;
// so old and new may run side by side.
package supervise
