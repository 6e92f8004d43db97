// Package arbiter decides which host has the voice of a machine: a
// test-and-set on the machine's generation. Of all hosts that claim to follow
// one generation exactly one wins. No clock is involved.
//
// Directory keeps the records as files in a directory that the hosts share.
// Its file system must have atomic link(2) and honour fsync for all hosts; NFS
// does, if it is mounted hard. Etcd keeps them in an etcd cluster; Member is one
// server of such a cluster inside this process.
package arbiter

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Record says who has the voice of a machine since a generation began.
type Record struct {
	Machine string `json:"machine"`
	// Generation counts from 1; 0 means that there is no record yet.
	Generation uint64 `json:"generation"`
	// Voice is the host that may release output; empty if none may.
	Voice string `json:"voice"`
	// Standby is the host that may claim to take over; empty if none.
	Standby string `json:"standby,omitempty"`
	// Kind of the claim: solo, takeover, pair, handover, stopped.
	Kind string `json:"kind"`
	// Time of the claim by the claimant's clock. Nothing depends on it.
	Time time.Time `json:"time"`
}

// LostError says that a claim lost, and to which record.
type LostError struct {
	// Expect is the generation that the claim wanted to follow.
	Expect uint64
	// Winner is the record that stands.
	Winner Record
}

func (e *LostError) Error() string {
	return fmt.Sprintf("claim of machine %s after generation %d lost: generation %d stands, voice %q (%s)",
		e.Winner.Machine, e.Expect, e.Winner.Generation, e.Winner.Voice, e.Winner.Kind)
}

var (
	// ErrCorrupt says that a record cannot be trusted. Nothing is granted
	// until somebody has looked at the file or key that the error names.
	ErrCorrupt = errors.New("corrupt arbiter record")
	// ErrOutcomeUnknown says that a claim may have won. Asking again with the
	// same claim on the same arbiter tells.
	ErrOutcomeUnknown = errors.New("the claim's outcome is unknown")
	// ErrName says that a name cannot be used in a record.
	ErrName = errors.New("bad name")
)

// machineName keeps a machine's name inside one directory entry.
var machineName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func checkMachine(name string) error {
	if !machineName.MatchString(name) {
		return fmt.Errorf("%w of machine %q: letters, digits, '.', '_' and '-', at most 64, the first a letter or digit", ErrName, name)
	}
	return nil
}

const maxText = 255

// completed checks a claim and fills in what it leaves open.
func (r Record) completed(expect uint64) (Record, error) {
	if err := checkMachine(r.Machine); err != nil {
		return r, err
	}
	for _, text := range []string{r.Voice, r.Standby, r.Kind} {
		if len(text) > maxText {
			return r, fmt.Errorf("%w: %.20q... is longer than %d bytes", ErrName, text, maxText)
		}
	}
	if r.Generation == 0 {
		r.Generation = expect + 1
	}
	if expect+1 == 0 || r.Generation != expect+1 {
		return r, fmt.Errorf("claim of generation %d for machine %s cannot follow generation %d", r.Generation, r.Machine, expect)
	}
	if r.Time.IsZero() {
		r.Time = time.Now().UTC()
	}
	return r, nil
}

// sameClaim compares what a claim asks for; its time is not part of that.
func (r Record) sameClaim(o Record) bool {
	r.Time, o.Time = time.Time{}, time.Time{}
	return r == o
}
