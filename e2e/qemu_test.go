package e2e

import (
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// onEachQEMU runs a test on each series of QEMU that the tests run on. What is
// not about QEMU runs on the default one only.
func onEachQEMU(t *testing.T, test func(t *testing.T, qemu string)) {
	t.Helper()
	needLab(t)
	for i, series := range scene.Series(build) {
		t.Run("QEMU "+series, func(t *testing.T) {
			pace.SkipOnSlow(t, i == 0)
			test(t, series)
		})
	}
}

// TestAPinnedMachineMovesBetweenQEMUs: a machine of one version's type, booted on
// the newer QEMU, is taken over by the older one and moves back.
func TestAPinnedMachineMovesBetweenQEMUs(t *testing.T) {
	series := scene.Series(build)
	if len(series) < 2 {
		t.Skip("one series of QEMU is set up")
	}
	s := newStage(t, 3*time.Minute, scene.Options{QEMUs: map[string]string{"a": series[0], "b": series[1]}})
	s.start()
	m := s.NAT()
	m.Machine = "pc-i440fx-10.0"
	s.protected(m)
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.flows(traffic, s.udp)
	_, err := s.A.KillQEMU(scene.Machine)
	s.must(err)
	s.movedTo(s.B)
	s.flows(traffic, s.udp)
	_, err = s.B.Switchover(s.ctx, scene.Machine)
	s.must(err)
	s.movedTo(s.A)
	s.flows(traffic, s.udp)
	if v := s.verdict(traffic).Verdict; v.Lost != 0 {
		t.Errorf("%d packets were lost", v.Lost)
	}
}

// movedTo waits until the machine is protected on a host, and tells by which QEMU
// it runs.
func (s *stage) movedTo(h *lab.Host) {
	s.t.Helper()
	m, err := h.WaitRole(s.ctx, scene.Machine, "protected")
	s.must(err)
	s.t.Logf("on host %s it runs on QEMU %s", h.Name, m.QemuVersion)
}
