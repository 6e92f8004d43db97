package replica

import "fmt"

// Versions of what two hosts say to each other: the newest and the oldest that this code
// knows. A pair speaks the newest that both know.
const (
	ProtocolNewest = 6
	ProtocolOldest = 6
)

// A Type says what a frame carries.
type Type uint8

// The types of frames. P is sent by the primary, S by the standby, B by both.
const (
	TypeHello        Type = iota + 1 // P: Hello
	TypeWelcome                      // S: Welcome
	TypeReject                       // S: Reject
	TypePrepare                      // P: Prepare
	TypePrepared                     // S: Prepared
	TypeBlocks                       // P: Blocks
	TypePages                        // P: Pages, of the first copy
	TypeEpochBegin                   // P: EpochBegin
	TypeDevice                       // P: a piece of the device state
	TypeOutput                       // P: Output
	TypeEpochEnd                     // P: EpochEnd
	TypeAck                          // S: empty; the standby holds this epoch
	TypeReleased                     // P: empty; output up to this epoch has left
	TypeHeartbeat                    // B: Heartbeat
	_                                // of versions that were never released
	TypeAddresses                    // P: Addresses
	TypeRole                         // P: Role
	TypeMachineLost                  // B: MachineLost
	TypeHandOver                     // P: empty; this epoch is the last
	TypeTookOver                     // S: TookOver
	TypeBye                          // B: Bye
	_                                // of versions that were never released
	TypeInputEnd                     // P: empty; no more input follows
	TypeInputLog                     // P: InputLog
	TypeInputStored                  // S: InputStored
	TypeInputCut                     // P: InputCut
	TypePacked                       // P: PackedBatch, of an epoch
	TypePackedDevice                 // P: PackedBatch of the device state
	TypeDigest                       // P: Digest
	TypeCards                        // S: Cards, before Prepared
	TypePorts                        // S: Ports, after Prepared
	typeEnd
)

const (
	short = 1 << 10
	large = 1 << 20
)

// types has a name and the longest payload in bytes for each type.
var types = [typeEnd]struct {
	name  string
	limit int
}{
	TypeHello:        {"hello", short},
	TypeWelcome:      {"welcome", short},
	TypeReject:       {"reject", short},
	TypePrepare:      {"prepare", large},
	TypePrepared:     {"prepared", short},
	TypeBlocks:       {"blocks", large},
	TypePages:        {"pages", MaxPayload},
	TypeEpochBegin:   {"epoch-begin", totalsSize},
	TypeDevice:       {"device", MaxPayload},
	TypeOutput:       {"output", MaxPayload},
	TypeEpochEnd:     {"epoch-end", totalsSize},
	TypeAck:          {"ack", 0},
	TypeReleased:     {"released", 0},
	TypeHeartbeat:    {"heartbeat", heartbeatSize},
	TypeAddresses:    {"addresses", large},
	TypeRole:         {"role", short},
	TypeMachineLost:  {"machine-lost", short},
	TypeHandOver:     {"hand-over", 0},
	TypeTookOver:     {"took-over", short},
	TypeBye:          {"bye", short},
	TypeInputEnd:     {"input-end", 0},
	TypeInputLog:     {"input-log", MaxPayload},
	TypeInputStored:  {"input-stored", 8},
	TypeInputCut:     {"input-cut", large},
	TypePacked:       {"packed", MaxPayload},
	TypePackedDevice: {"packed-device", MaxPayload},
	TypeDigest:       {"digest", digestSize},
	TypeCards:        {"cards", large},
	TypePorts:        {"ports", large},
}

// String names the type.
func (t Type) String() string {
	if t.known() {
		return types[t].name
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Limit is the longest payload of the type, in bytes.
func (t Type) Limit() int {
	if t.known() {
		return types[t].limit
	}
	return 0
}

func (t Type) known() bool { return t > 0 && t < typeEnd && types[t].name != "" }
