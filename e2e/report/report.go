// Package report presents what a demonstration measured: as JSON for programs,
// as a table for the terminal, and as a picture (see Timeline).
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is the content of report.json.
type Report struct {
	Acts        []Act     `json:"acts"`
	Checkpoints uint64    `json:"checkpoints"` // taken during all acts
	PauseUS     Quantiles `json:"pause_us"`    // guest stopped or quiesced
	QuiesceUS   Quantiles `json:"quiesce_us"`  // asked until quiescent
	CommitUS    Quantiles `json:"commit_us"`   // due until acknowledged by the standby
	RoundTripUS RoundTrip `json:"round_trip_us"`
	Accel       string    `json:"accel"` // "kvm" or "tcg"
	QEMUVersion string    `json:"qemu_version"`
}

// RoundTrip is what a request and its answer take through the machine: what
// holding output until its commit costs.
type RoundTrip struct {
	Unprotected Quantiles `json:"unprotected"`
	Protected   Quantiles `json:"protected"`
}

// Act is one fault and what the traffic saw of it. Durations are milliseconds.
// Packets are numbered test packets of both directions.
type Act struct {
	Name            string  `json:"name"`
	Killed          string  `json:"killed"` // what was killed, in words
	KillToRunningMS float64 `json:"kill_to_running_ms"`
	BlackoutMS      float64 `json:"blackout_ms"`
	Sent            uint64  `json:"sent"`
	Received        uint64  `json:"received"`
	Lost            uint64  `json:"lost"`
	Duplicated      uint64  `json:"duplicated"`
	Reordered       uint64  `json:"reordered"`
	Rollbacks       uint64  `json:"rollbacks"`
	TCPIntact       bool    `json:"tcp_intact"`
}

// Quantiles summarise a duration in microseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
}

// QuantilesOf computes quantiles (nearest rank) without changing the slice. No
// durations give zeros.
func QuantilesOf(d []time.Duration) Quantiles {
	if len(d) == 0 {
		return Quantiles{}
	}
	sorted := slices.Clone(d)
	slices.SortFunc(sorted, cmp.Compare[time.Duration])
	at := func(percent int) float64 {
		return float64(sorted[(len(sorted)-1)*percent/100].Nanoseconds()) / 1e3
	}
	return Quantiles{P50: at(50), P95: at(95)}
}

// Milliseconds is a duration as a report states it, to a hundredth.
func Milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond).Microseconds()) / 1e3
}

// WriteJSON writes the report as indented JSON.
func (r Report) WriteJSON(w io.Writer) error {
	if r.Acts == nil {
		r.Acts = []Act{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
