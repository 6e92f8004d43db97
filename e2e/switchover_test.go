package e2e

import (
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// TestSwitchoverLosesNothing moves the machine back and forth under load.
func TestSwitchoverLosesNothing(t *testing.T) {
	s := newStage(t, 3*time.Minute, scene.Options{})
	s.start()
	s.must(s.Boot(s.ctx, s.NAT()))
	from, to := s.A, s.B
	for n := range uint32(4) {
		s.must(s.Protect(s.ctx, from, to))
		traffic := s.traffic(scene.TrafficOptions{Rate: 500, TCPRate: tcpRate, Stream: n + 1})
		s.flows(traffic, 500)
		_, err := from.Switchover(s.ctx, scene.Machine)
		s.must(err)
		_, err = to.WaitRole(s.ctx, scene.Machine, "solo", "seeding", "protected")
		s.must(err)
		s.flows(traffic, 500)
		if v := s.verdict(traffic).Verdict; v.Lost != 0 || v.Duplicated != 0 {
			t.Errorf("switch-over %d lost %d packets and duplicated %d", n+1, v.Lost, v.Duplicated)
		}
		from, to = to, from
	}
}
