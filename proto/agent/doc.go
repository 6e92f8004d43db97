// Package agent is the wire format between a host and the agent in its guest,
// over a virtio-serial port. The channel keeps old bytes across restarts of
// either end, so every frame names its session and carries checksums, and the
// [Reader] finds its way back after garbage.
//
// A frame, big endian:
//
//	 0  magic "SPAG"
//	 4  version u8 (1)
//	 5  type u8
//	 6  payload length u16, at most the type's limit
//	 8  session u64, drawn by the host for each connection; 0 = none yet
//	16  epoch u64, which one a request is about; informative
//	24  CRC-32C of bytes 0 to 23
//	28  CRC-32C of the payload
//	32  payload
//
// The header has a checksum of its own so that garbage is told from a header
// without waiting for a payload that never comes.
package agent
