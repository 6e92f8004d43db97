package daemon

import (
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

func TestPlaces(t *testing.T) {
	var p places
	for want := range 3 {
		if got := p.take(); got != want {
			t.Errorf("place %d, want %d", got, want)
		}
	}
	p.leave(1)
	p.leave(0)
	for _, want := range []int{0, 1, 3} {
		if got := p.take(); got != want {
			t.Errorf("place %d, want the lowest that is free, %d", got, want)
		}
	}
}

func TestPolicyOfAPlace(t *testing.T) {
	start := time.Unix(1000, 0)
	p := spec.Default().Protection
	p.Checkpoint = spec.Periodic
	first, second := policyOf(p, 0, start), policyOf(p, 1, start)
	if !first.Origin.Equal(start) || !second.Origin.After(start) || second.Origin.Sub(start) >= first.Interval {
		t.Errorf("turns at %v and %v", first.Origin, second.Origin)
	}
	if !first.Periodic || first.Interval != time.Duration(p.Interval) || first.MinEpoch != time.Duration(p.MinEpoch) ||
		first.MaxEpoch != time.Duration(p.MaxEpoch) || first.Overhead != float64(p.Overhead) {
		t.Errorf("%+v of %+v", first, p)
	}
}
