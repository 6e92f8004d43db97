package pair

// Role of a machine on this host.
type Role string

// The roles. The primary's side passes unprotected, seeding and protected; the
// standby's side standby, taking-over and solo. Fenced is the end of both: this
// host may not speak for the machine.
const (
	Unprotected Role = "unprotected"
	Seeding     Role = "seeding"
	Protected   Role = "protected"
	Solo        Role = "solo"
	Standby     Role = "standby"
	TakingOver  Role = "taking-over"
	Fenced      Role = "fenced"
)

// Kind of a claim at the arbiter.
type Kind string

// The claims. Return gives the voice back to a primary whose planned
// switch-over failed; Stop gives it to nobody.
const (
	ClaimPair     Kind = "pair"
	ClaimSolo     Kind = "solo"
	ClaimTakeover Kind = "takeover"
	ClaimHandover Kind = "handover"
	ClaimReturn   Kind = "return"
	ClaimStop     Kind = "stopped"
)

// Event is something that has happened.
type Event interface{ event() }

// Events of the primary's side.
type (
	// Started: the machine runs here, and no pair exists. Solo says that it was
	// protected before and lost its standby.
	Started struct {
		Generation uint64
		Solo       bool
	}
	// Protect, Unprotect and SwitchoverAsked come from an operator.
	Protect         struct{ Standby string }
	Unprotect       struct{}
	SwitchoverAsked struct{}
	// StandbyPrepared: a QEMU stands by on the other host.
	StandbyPrepared struct{}
	// SeedFailed: the standby could not be reached or prepared.
	SeedFailed struct{ Why string }
	// EpochCaptured: an epoch is held in local memory. After the Last one the
	// guest stays stopped.
	EpochCaptured struct {
		Epoch uint64
		Last  bool
	}
	// EpochAcked: the standby holds the epoch whole.
	EpochAcked struct{ Epoch uint64 }
	// PeerTookOver: the standby runs the machine.
	PeerTookOver struct{ Generation uint64 }
)

// Events of the standby's side.
type (
	BecomeStandby struct {
		Primary    string
		Generation uint64
	}
	// RoleGranted: the primary has named this host its standby at the arbiter.
	RoleGranted struct{ Generation uint64 }
	// EpochStored: an epoch is held whole and not acknowledged yet.
	EpochStored     struct{ Epoch uint64 }
	PeerMachineLost struct{ Why string }
	// HandedOver: the epoch is the last one of a planned switch-over.
	HandedOver     struct{ Epoch uint64 }
	TakeoverAsked  struct{}
	Running        struct{}
	TakeoverFailed struct{ Why string }
	// StandbyDropped: the primary does not want this standby any more, or this
	// host's replica is of no use.
	StandbyDropped struct {
		Why  string
		Here bool // the fault is this host's
	}
)

// Events of both sides.
type (
	// Stop comes from an operator: this host's part ends, and a machine that runs
	// here ends with it.
	Stop     struct{}
	LinkLost struct{ Why string }
	// MachineLost: QEMU on this host has ended, or ends for certain.
	MachineLost struct{ Why string }
	// Granted, Denied and ArbiterSilent answer a Claim, once each.
	Granted struct{ Generation uint64 }
	Denied  struct {
		Holder     string
		Generation uint64
	}
	// NotMade says that the claim was certainly not made, and will not be.
	ArbiterSilent struct {
		Why     string
		NotMade bool
	}
	RetryDue struct{}
)

func (Started) event()         {}
func (Protect) event()         {}
func (Unprotect) event()       {}
func (SwitchoverAsked) event() {}
func (StandbyPrepared) event() {}
func (SeedFailed) event()      {}
func (EpochCaptured) event()   {}
func (EpochAcked) event()      {}
func (PeerTookOver) event()    {}
func (BecomeStandby) event()   {}
func (RoleGranted) event()     {}
func (EpochStored) event()     {}
func (PeerMachineLost) event() {}
func (HandedOver) event()      {}
func (TakeoverAsked) event()   {}
func (Running) event()         {}
func (TakeoverFailed) event()  {}
func (StandbyDropped) event()  {}
func (Stop) event()            {}
func (LinkLost) event()        {}
func (MachineLost) event()     {}
func (Granted) event()         {}
func (Denied) event()          {}
func (ArbiterSilent) event()   {}
func (RetryDue) event()        {}

// Effect is something that the caller must do.
type Effect interface{ effect() }

type (
	ConnectStandby struct{ Peer string }
	// Seed begins the first copy, and checkpoints after it.
	Seed struct{}
	// Claim asks the arbiter for the generation after Expect.
	Claim struct {
		Kind           Kind
		Expect         uint64
		Voice, Standby string
	}
	// PassOutput ends checkpoints, releases all held output and lets output
	// leave at once.
	PassOutput struct{}
	Ship       struct{ Epoch uint64 }
	// Release lets the output of a committed epoch leave.
	Release struct{ Epoch uint64 }
	// Silence drops held output and lets none leave any more.
	Silence   struct{}
	LeaveCOLO struct{}
	// LastEpoch takes one more epoch and leaves the guest stopped.
	LastEpoch         struct{}
	HandOver          struct{ Epoch uint64 }
	NotifyMachineLost struct{}
	// ForwardInput sends what arrives on the wire here to the other side, until
	// EndInput, which sends the rest and says that it was all.
	ForwardInput struct{}
	EndInput     struct{}
	NotifyRole   struct{ Generation uint64 }
	KillMachine  struct{}
	CloseLink    struct{}
	// Ack commits an epoch; the caller applies it afterwards.
	Ack         struct{ Epoch uint64 }
	TakeOver    struct{}
	GoLive      struct{}
	DropReplica struct{}
	// ScheduleRetry asks for a RetryDue in a while.
	ScheduleRetry struct{}
	// Refused answers an operator's event that changes nothing: it comes alone.
	Refused struct{ Why string }
	// StopWaits, StopRefused and Stopped tell what becomes of a Stop. It waits
	// where the arbiter does not answer. Refused means that nothing was granted: the
	// machine goes on, and its output may leave again. Stopped names the host that
	// has the voice instead, if there is one.
	StopWaits   struct{ Why string }
	StopRefused struct{ Why string }
	Stopped     struct{ Heir string }
	// Report tells the operator.
	Report struct{ Kind, Message string }
)

func (ConnectStandby) effect()    {}
func (Seed) effect()              {}
func (Claim) effect()             {}
func (PassOutput) effect()        {}
func (Ship) effect()              {}
func (Release) effect()           {}
func (Silence) effect()           {}
func (LeaveCOLO) effect()         {}
func (LastEpoch) effect()         {}
func (HandOver) effect()          {}
func (NotifyMachineLost) effect() {}
func (ForwardInput) effect()      {}
func (EndInput) effect()          {}
func (NotifyRole) effect()        {}
func (KillMachine) effect()       {}
func (CloseLink) effect()         {}
func (Ack) effect()               {}
func (TakeOver) effect()          {}
func (GoLive) effect()            {}
func (DropReplica) effect()       {}
func (ScheduleRetry) effect()     {}
func (Refused) effect()           {}
func (StopWaits) effect()         {}
func (StopRefused) effect()       {}
func (Stopped) effect()           {}
func (Report) effect()            {}
