// Package replica is the wire format between two hosts: epochs of a
// protected machine and what the daemons say about them.
//
// A connection carries frames. Each has a header of 32 bytes, big-endian:
//
//	 0  u32  magic "SPFT"
//	 4  u8   version, 1
//	 5  u8   type
//	 6  u16  flags, none so far
//	 8  u32  length of the payload in bytes, at most 4 MiB and the type's limit
//	12  u32  CRC32C of header (with zero here) and payload
//	16  u64  epoch
//	24  u64  generation
//
// An epoch is a sequence of frames of one number: [TypeEpochBegin], any number
// of [TypePages] or [TypePacked], of [TypeDevice] and [TypeOutput], and
// [TypeEpochEnd], whose totals must be those of the beginning. Pages that a
// packed batch leaves out, because the standby has them, count as well. Where
// the device state is packed, [TypePackedDevice] brings it in pages, of block 0 and
// the last one filled with zeros, as changes to that of the epoch before. Before the
// end [TypeDigest] says what memory and device state are after the epoch. The
// standby answers with [TypeAck] when it holds all of it.
//
// A payload is a struct with an Append method and a Decode function. Strings
// are a u16 length and bytes. Decoding checks every length before it
// allocates, accepts nothing after the payload, and leaves nothing pointing
// into the payload except where it says so (pages, output and input, which are
// large). A packed batch is opened into memory of its own, which is used again.
// [TypeDevice] has no struct: its payload is a piece of the device state as it
// is. [TypeAck], [TypeReleased] and [TypeHandOver] have no payload; the epoch in
// the header says it all.
//
// The header's version is that of the framing. What two hosts say within it is
// the protocol of [Hello] and [Welcome], from [ProtocolOldest] to [ProtocolNewest]. The
// standby answers with the newest that both know, and refuses a primary whose newest it does
// not know any more; the primary leaves a standby that answers with one that is too old.
//
// Nothing here does policy or starts a goroutine.
package replica
