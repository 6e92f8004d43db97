package status

// View is what an operator wants to know of a machine.
type View struct {
	Snapshot
	Name  string
	PID   int // of its QEMU; 0 if it has ended
	Accel string
	// Agent is none, connected or silent.
	Agent string
	// Quiescence is quiesced, forced or no agent.
	Quiescence                               string
	CheckpointPolicy, OutputPolicy, InputLog string
	Console                                  string
	Output                                   Output
	Input                                    Input
	Warnings                                 []string
}

// Output of a machine: what is held, in frames and bytes, and frames since the gate was
// opened.
type Output struct {
	HeldFrames, HeldBytes     uint64
	Released, Dropped, Resent uint64
}

// Input of a machine, in frames since the gate was opened; Held are waiting.
type Input struct {
	Held, Delivered, Dropped, Late, Logged, Unlogged uint64
}

// Scrub is what one has found.
type Scrub struct {
	Pages, WrongPages uint64
	Damage            []Damage // the first of the wrong pages
	ReplicaEpoch      uint64   // the last that was held whole before
}

// Damage is a page that is not what the primary has sent.
type Damage struct {
	Block  string
	Offset uint64
}

// Host is what an operator wants to know of a daemon.
type Host struct {
	Name, Version string
	Machines      []View
	Goroutines    int
	Warnings      []string
}
