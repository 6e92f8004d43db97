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
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: 500, TCPRate: tcpRate, Stream: 1})
	from, to := s.A, s.B
	for range 4 {
		s.flows(traffic, 500)
		_, err := from.Switchover(s.ctx, scene.Machine)
		s.must(err)
		_, err = to.WaitRole(s.ctx, scene.Machine, "solo")
		s.must(err)
		s.flows(traffic, 500)
		s.must(s.Protect(s.ctx, to, from))
		from, to = to, from
	}
	if v := s.verdict(traffic).Verdict; v.Lost != 0 || v.Duplicated != 0 {
		t.Errorf("four switch-overs lost %d packets and duplicated %d", v.Lost, v.Duplicated)
	}
}
