package e2e

import (
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// TestSwitchoverLosesNothing moves the machine back and forth under load.
func TestSwitchoverLosesNothing(t *testing.T) { onEachQEMU(t, switchoverLosesNothing) }

func switchoverLosesNothing(t *testing.T, qemu string) {
	s := newStage(t, 3*time.Minute, scene.Options{QEMU: qemu})
	s.start()
	s.must(s.Boot(s.ctx, s.NAT()))
	from, to := s.A, s.B
	for n := range uint32(4) {
		s.must(s.Protect(s.ctx, from, to))
		traffic := s.traffic(scene.TrafficOptions{Rate: s.busy, TCPRate: s.tcp, Stream: n + 1})
		s.flows(traffic, s.busy)
		_, err := from.Switchover(s.ctx, scene.Machine)
		s.must(err)
		_, err = to.WaitRole(s.ctx, scene.Machine, "solo", "seeding", "protected")
		s.must(err)
		s.flows(traffic, s.busy)
		if v := s.verdict(traffic).Verdict; v.Lost != 0 || v.Duplicated != 0 {
			t.Errorf("switch-over %d lost %d packets and duplicated %d", n+1, v.Lost, v.Duplicated)
		}
		from, to = to, from
	}
}

// TestSwitchoverToAHostWithoutTheArbiter: the standby cannot claim what it is
// handed. The machine runs on where it is, and nothing that arrived is lost.
func TestSwitchoverToAHostWithoutTheArbiter(t *testing.T) {
	pace.SkipOnSlow(t, false)
	patience := func(c *lab.Config) { c.Detection.QEMU = pace.Here().Limit(time.Second).String() } // less than the arbiter has
	s := newCluster(t, 2*time.Minute, scene.Options{Configure: patience})
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.busy, Stream: 1})
	s.flows(traffic, s.busy)
	s.must(s.B.Arb.Unplug())
	if _, err := s.A.Switchover(s.ctx, scene.Machine); err == nil {
		t.Error("the switch-over is said to have succeeded")
	}
	_, err := s.A.WaitRole(s.ctx, scene.Machine, "solo", "seeding", "protected")
	s.must(err)
	s.flows(traffic, s.busy)
	s.must(s.B.Arb.Plug())
	_, err = s.A.WaitRole(s.ctx, scene.Machine, "protected")
	s.must(err)
	s.flows(traffic, s.busy)
	if v := s.verdict(traffic).Verdict; v.Lost != 0 || v.Duplicated != 0 {
		t.Errorf("%d packets lost and %d duplicated", v.Lost, v.Duplicated)
	}
}
