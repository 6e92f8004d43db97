package e2e

import (
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// TestQEMUKillsLoseNothing kills QEMU again and again, wherever the machine
// runs, under two fifths of what the guest carries unprotected, at most 5,000 packets
// per second: 2,500 requests, each answered. What arrived was logged, what arrives is
// passed on, so nothing is lost. The pair comes back by itself each time.
func TestQEMUKillsLoseNothing(t *testing.T) { onEachQEMU(t, qEMUKillsLoseNothing) }

func qEMUKillsLoseNothing(t *testing.T, qemu string) {
	const most, part = 2500, 40
	times := 20
	if qemu != scene.DefaultQEMU(build) {
		times = 8
	}
	s := newStage(t, 5*time.Minute, scene.Options{QEMU: qemu})
	kills, requests := s.Pace.Count(times, 6), s.load.Rate(most, part)
	t.Logf("%d kills under %d requests per second", kills, requests)
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: requests, Stream: 1})
	from, to := s.A, s.B
	var before []lab.Usage
	var goroutines []uint32
	for n := range kills {
		s.flows(traffic, requests)
		_, err := from.KillQEMU(scene.Machine)
		s.must(err)
		_, err = to.WaitRole(s.ctx, scene.Machine, "protected")
		s.must(err)
		if n == 1 { // each has been both by now
			before, goroutines = s.usages(), s.goroutines()
		}
		from, to = to, from
	}
	s.flows(traffic, requests)
	after, goroutinesAfter := s.usages(), s.goroutines()
	v := s.verdict(traffic).Verdict
	if v.Lost != 0 {
		t.Errorf("%d of %d packets were lost over %d kills of QEMU", v.Lost, v.Sent, kills)
	}
	t.Logf("before %+v and %v goroutines, after %+v and %v", before, goroutines, after, goroutinesAfter)
	for i, h := range s.Hosts {
		noGrowth(t, h, before[i], after[i])
	}
}
