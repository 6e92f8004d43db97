package policy

import (
	"testing"
	"time"
)

func TestRetriesBecomeRare(t *testing.T) {
	now := time.Unix(1000, 0)
	var r Retry
	if !r.Due(now) {
		t.Error("a host that has not failed waits")
	}
	for i, want := range []int{3, 6, 12, 24, 48, 96, 192, 300, 300} {
		r = r.Failed(now)
		pause := time.Duration(want) * time.Second
		if r.Failures() != i+1 || r.At() != now.Add(pause) || r.Due(now.Add(pause-1)) || !r.Due(now.Add(pause)) {
			t.Errorf("after %d failures the next try is in %v, want %v", i+1, r.At().Sub(now), pause)
		}
	}
	for range 100 {
		r = r.Failed(now)
	}
	if r.At() != now.Add(5*time.Minute) {
		t.Errorf("after %d failures the next try is in %v", r.Failures(), r.At().Sub(now))
	}
}

func TestAHostThatIsBackIsTriedAtOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	r := Retry{}.Failed(now).Failed(now).Lost()
	if !r.Due(now) {
		t.Error("it waits")
	}
	if r = r.Failed(now); r.At() != now.Add(12*time.Second) {
		t.Errorf("its failures are forgotten: the next try is in %v", r.At().Sub(now))
	}
}
