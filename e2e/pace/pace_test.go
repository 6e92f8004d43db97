package pace

import (
	"fmt"
	"testing"
	"time"
)

func TestSlowMachinesGetMoreTimeAndLessWork(t *testing.T) {
	for _, c := range []struct {
		rounds float64
		limit  time.Duration
		count  int
	}{
		{10 * reference, time.Second, 20}, // a faster one is not hurried
		{reference, time.Second, 20},
		{reference / 2, 2 * time.Second, 10},
		{reference / 4, 4 * time.Second, 6},
		{0, slowest * time.Second, 6},
	} {
		p := of(c.rounds)
		if got := p.Limit(time.Second); got != c.limit {
			t.Errorf("%.0f rounds: a second is %v, want %v", c.rounds, got, c.limit)
		}
		if got := p.Count(20, 6); got != c.count {
			t.Errorf("%.0f rounds: 20 are %d, want %d", c.rounds, got, c.count)
		}
	}
	if (Pace{}).Limit(time.Second) != time.Second || (Pace{}).Count(3, 5) != 3 {
		t.Error("the zero value changes something")
	}
}

func TestMeasure(t *testing.T) {
	p := Measure()
	t.Log(p)
	if p.Slowness < 1 || p.Slowness > slowest {
		t.Errorf("%+v", p)
	}
}

// skipped notes that a test was skipped.
type skipped struct{ why string }

func (s *skipped) Helper() {}

func (s *skipped) Skipf(format string, args ...any) { s.why = fmt.Sprintf(format, args...) }

func TestOnlyASlowMachineSkips(t *testing.T) {
	here := Here
	defer func() { Here = here }()
	for _, c := range []struct {
		slowness      float64
		telling, want bool
	}{{1, false, false}, {3, false, false}, {3.5, false, true}, {3.5, true, false}, {8, false, true}} {
		Here = func() Pace { return Pace{c.slowness} }
		var s skipped
		if SkipOnSlow(&s, c.telling); (s.why != "") != c.want {
			t.Errorf("%+v: %q", c, s.why)
		}
	}
}
