// Package colo reads and writes what QEMU says on a COLO channel: the
// messages of a checkpoint, and the migration stream that carries memory.
//
// The primary's QEMU opens the channel with an ordinary migration: a header,
// RAM sections, device state. After that every checkpoint is a short dialogue:
//
//	QEMU                                 us
//	CheckpointRequest           ->
//	                            <-       CheckpointReply
//	(stops the guest)
//	VMStateSend                 ->
//	RAM sections, end of file   ->
//	VMStateSize, u64, blob      ->
//	                            <-       VMStateReceived, VMStateLoaded
//	(the guest runs on)
//
// A [Reader] takes that apart; [AppendMessage] makes our half of it.
// [WriteIncoming] makes the stream that a waiting QEMU takes over from.
//
// A QEMU of the 11 series wants a return path as well, on which it is told nothing
// but its end: [AppendReturnPathEnd].
//
// All numbers are big-endian. The formats are those of QEMU 7.2 to 11.1, in
// its files migration/colo.c (messages), migration/savevm.c (sections) and
// migration/ram.c (RAM records). Nothing here does policy or starts a
// goroutine. Every length is checked before anything is allocated for it.
package colo
