package e2e

import (
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
)

// Loss of the daemon is loss of the voice.

func TestDaemonKilledWhileTheGuestRuns(t *testing.T) {
	s := newStage(t, 90*time.Second, scene.Options{})
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.flows(traffic, s.udp)
	_, err := s.A.Kill()
	s.must(err)
	s.silentWhileFlowing(s.A, traffic)
	s.verdict(traffic)
}

func TestDaemonKilledWhileTheGuestIsStopped(t *testing.T) {
	s := newStage(t, 90*time.Second, scene.Options{Faults: true})
	faults, err := s.A.Faults(fault.Copied + "@20")
	s.must(err)
	s.start(faults.Env()...)
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	_, err = faults.Await(s.ctx, fault.Copied)
	s.must(err)
	_, err = s.A.Kill()
	s.must(err)
	s.silentWhileFlowing(s.A, traffic)
	s.verdict(traffic)
}

// silentWhileFlowing checks that the dead daemon's host sends nothing of the
// guest although its QEMU lives, while the other host carries the traffic.
func (s *stage) silentWhileFlowing(dead *lab.Host, traffic *scene.Traffic) {
	s.t.Helper()
	s.must(s.Wire.Settle(s.ctx))
	before := s.sentBy(dead)
	if _, err := dead.QEMU(scene.Machine); err != nil {
		s.t.Fatalf("the guest of the dead daemon is gone, so its silence proves nothing: %v", err)
	}
	_, err := s.B.WaitRole(s.ctx, scene.Machine, "solo", "seeding", "protected")
	s.must(err)
	s.flows(traffic, s.udp)
	s.must(s.Wire.Settle(s.ctx))
	if after := s.sentBy(dead); after != before {
		s.t.Errorf("host %s sent %d frames of its guest after its daemon had died", dead.Name, after-before)
	}
	missed, err := s.Wire.Missed()
	s.must(err)
	if missed != 0 {
		s.t.Errorf("the observer missed %d frames", missed)
	}
}

// sentBy counts the guest's frames that left a host.
func (s *stage) sentBy(h *lab.Host) (frames uint64) {
	s.t.Helper()
	for _, text := range []string{lab.NATInsideMAC, lab.NATOutsideMAC} {
		mac, err := lab.ParseMAC(text)
		s.must(err)
		frames += s.Wire.SentBy(h.Name, mac).Frames
	}
	return frames
}

func TestUnprotectedGuestOfADeadDaemonIsSilent(t *testing.T) {
	s := newStage(t, 60*time.Second, scene.Options{})
	s.start()
	s.must(s.Boot(s.ctx, s.NAT()))
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, Stream: 1})
	s.flows(traffic, 50)
	_, err := s.A.Kill()
	s.must(err)
	s.must(s.Wire.Settle(s.ctx))
	before, sent := s.sentBy(s.A), sentSoFar(traffic)
	s.must(scene.Until(s.ctx, func() bool { return sentSoFar(traffic) > sent+s.udp }))
	s.must(s.Wire.Settle(s.ctx))
	if after := s.sentBy(s.A); after != before {
		t.Errorf("%d frames left the host after its daemon had died", after-before)
	}
	s.leftoverIsAdopted(traffic)
	_, err = traffic.Stop(s.ctx)
	s.must(err)
}

// leftoverIsAdopted checks that a new daemon gives the machine of the last one
// its voice back: no other host has it.
func (s *stage) leftoverIsAdopted(traffic *scene.Traffic) {
	s.t.Helper()
	left, err := s.A.QEMUPid(scene.Machine)
	s.must(err)
	s.must(s.A.Restart(s.ctx))
	m, err := s.A.WaitRole(s.ctx, scene.Machine, "unprotected")
	s.must(err)
	if m.QemuPid != int64(left) {
		s.t.Errorf("the machine runs in process %d, and was in %d", m.QemuPid, left)
	}
	s.flows(traffic, s.udp)
}

func sentSoFar(t *scene.Traffic) int {
	sent, _ := t.Recorder.Counts()
	return sent
}
