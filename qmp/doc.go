// Package qmp speaks QEMU's machine protocol (QMP) in typed verbs. It knows
// nothing of who uses it.
//
// A Client works over any Monitor of go-qemu (github.com/digitalocean/go-qemu,
// package qmp): a socket of QEMU's own, or libvirt's monitor (package
// qmp/libvirt). It adds what that interface lacks: every verb ends with its
// context, events always flow, and the end of the monitor is told.
//
// Commands run one at a time, in the order of the calls. A command whose
// context ends before its turn is never sent (ErrNotSent); one that was sent
// and not answered in time may or may not have been done (ErrOutcomeUnknown),
// and until QEMU answers it the next ones wait. Out-of-band commands have a
// lane of their own, where they were negotiated (DialOutOfBand).
//
// # Why Dial does not use go-qemu's SocketMonitor
//
// Dial brings a socket monitor of its own behind the same interface, since
// these faults of go-qemu's (v0.0.0-20250212194115) cannot be helped from
// outside:
//
//   - After a read error (a reset connection, a line over 64 KiB) it waits for
//     the next command before it closes the events: QEMU's death goes unseen.
//   - A reply is handed out in the scanner's buffer, which the next line may
//     overwrite while it is being parsed.
//   - A reply that nobody waits for blocks all events, and is then taken for
//     the reply of the next command.
//   - What follows the handshake's reply in the same read is lost.
//   - Connect has no deadline, and Disconnect during Connect is a data race.
//   - The class of an error is dropped, out-of-band commands are not possible.
//
// New takes it all the same, with these faults.
package qmp
