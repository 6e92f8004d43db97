package colo

import (
	"encoding/binary"
	"fmt"
)

// A Message is one step of a checkpoint's dialogue: a big-endian u32 on the
// wire (COLOMessage in QEMU's qapi/migration.json).
type Message uint32

// The messages, in QEMU's numbering.
const (
	CheckpointReady   Message = iota // secondary: standing by
	CheckpointRequest                // primary: a checkpoint may start
	CheckpointReply                  // secondary: start it
	VMStateSend                      // primary: stopped, memory follows
	VMStateSize                      // primary: a u64 and the device state follow
	VMStateReceived                  // secondary: all of it has arrived
	VMStateLoaded                    // secondary: the primary may run on
)

var messageNames = [...]string{
	CheckpointReady:   "checkpoint-ready",
	CheckpointRequest: "checkpoint-request",
	CheckpointReply:   "checkpoint-reply",
	VMStateSend:       "vmstate-send",
	VMStateSize:       "vmstate-size",
	VMStateReceived:   "vmstate-received",
	VMStateLoaded:     "vmstate-loaded",
}

// String gives QEMU's name of the message.
func (m Message) String() string {
	if m.known() {
		return messageNames[m]
	}
	return fmt.Sprintf("message %d", uint32(m))
}

func (m Message) known() bool { return uint64(m) < uint64(len(messageNames)) }

// AppendMessage appends the four bytes of m to b.
func AppendMessage(b []byte, m Message) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(m))
}

// AppendReturnPathEnd appends to b the message by which the other side of a
// migration with a return path says that it has nothing to say any more, and that
// all is well (MIG_RP_MSG_SHUT in QEMU's migration/migration.c). A QEMU that was
// given the capability return-path waits for it at the end of its first copy, with
// its guest stopped.
func AppendReturnPathEnd(b []byte) []byte {
	const shut, length, well = 1, 4, 0
	b = binary.BigEndian.AppendUint16(b, shut)
	b = binary.BigEndian.AppendUint16(b, length)
	return binary.BigEndian.AppendUint32(b, well)
}
