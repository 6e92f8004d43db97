package primary

import (
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

func TestPolicyOfAPlace(t *testing.T) {
	start := time.Unix(1000, 0)
	p := spec.Default().Protection
	p.Checkpoint = spec.Periodic
	first, second := PolicyOf(p, 0, start), PolicyOf(p, 1, start)
	if !first.Origin.Equal(start) || !second.Origin.After(start) || second.Origin.Sub(start) >= first.Interval {
		t.Errorf("turns at %v and %v", first.Origin, second.Origin)
	}
	if !first.Periodic || first.Interval != time.Duration(p.Interval) || first.MinEpoch != time.Duration(p.MinEpoch) ||
		first.MaxEpoch != time.Duration(p.MaxEpoch) || first.Overhead != float64(p.Overhead) {
		t.Errorf("%+v of %+v", first, p)
	}
}
