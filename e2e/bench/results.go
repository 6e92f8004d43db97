package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// results are all that a run measured.
type results struct {
	Host      host
	Every     time.Duration // from checkpoint to checkpoint
	Cells     []*cell
	Takeovers []*takeovers
	Traffic   []*trafficMode
}

// host is where it was measured.
type host struct {
	When             time.Time
	Took             time.Duration
	CPU              string
	CPUs             int
	Kernel           string
	QEMU, Accel      string
	Version, Command string
}

// pause is one checkpoint as the guest felt it.
type pause struct {
	Stopped time.Duration // STOP to RESUME, by QEMU's clock
	Reply   time.Duration // the reply that begins it to RESUME; 0 where not told
	Pages   int
	parts   // of Stillpoint's alone
}

// parts of a checkpoint that the daemon tells.
type parts struct {
	Quiesce, Stop, Copy, Waited, Commit time.Duration `json:",omitempty"`
	Dirty, Wire                         uint64        `json:",omitempty"` // bytes
}

// cell is one guest, measured. Slices are by round.
type cell struct {
	Memory             string
	Rate               int // pages that the guest rewrites all the time
	Pair, Floor, Stock [][]pause
	// StillFloor is the floor with the guest's application at rest.
	StillFloor [][]pause `json:",omitempty"`
	Cost       []cost
}

// cost of one round of Stillpoint's checkpoints.
type cost struct {
	Checkpoints      int
	Dirty            uint64        // bytes, of all of them
	Primary, Standby time.Duration // processor time of the daemons
	Copy             time.Duration // of the same pages through a socket pair, once
	// Anonymous memory of the daemons at the end, bytes.
	PrimaryMemory, StandbyMemory uint64
}

// takeovers of one guest.
type takeovers struct {
	Memory string
	// From the kill of the primary's QEMU; by round.
	Running, FirstPacket, Stock []time.Duration
	// Busy is the processor time of the new QEMU from running to the first packet.
	Busy []time.Duration
}

// trafficMode compares one way of protecting a guest with none.
type trafficMode struct {
	Name   string
	Rounds []trafficRound
}

type trafficRound struct{ Without, With load }

// load is what traffic saw.
type load struct {
	RoundTrip   []time.Duration // of single packets and their answers
	Answered    float64         // requests per second, of more than it can take
	TCP         float64         // bytes per second
	Retransmits int             // of that stream
	Sent        uint64          // bytes of it, payload
	Checkpoints float64         // per second
	Pause       time.Duration   // median
	Wire, Dirty uint64          // bytes shipped, and pages before that
}

func (r *results) save(path string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

func readResults(path string) (*results, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &results{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read results %s: %w", path, err)
	}
	return r, nil
}
