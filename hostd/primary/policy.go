package primary

import (
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// OutputOf a machine says what decides when its output leaves.
func OutputOf(p spec.Protection) policy.Output {
	if p.Output == spec.Pass {
		return policy.AtOnce
	}
	return policy.OnCommit
}

// PolicyOf a machine in a slot. Turns are counted from start, which all
// machines of a host have in common.
func PolicyOf(p spec.Protection, slot int, start time.Time) policy.Policy {
	interval := time.Duration(p.Interval)
	late := time.Duration(policy.Phase(slot) * float64(interval))
	return policy.Policy{Periodic: p.Checkpoint == spec.Periodic, Interval: interval, Origin: start.Add(late),
		MinEpoch: time.Duration(p.MinEpoch), MaxEpoch: time.Duration(p.MaxEpoch), Overhead: float64(p.Overhead)}
}
