package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
)

// TestAStalledPrimaryWakesSilent freezes everything on the primary's host, and
// thaws it when the other host has taken over.
func TestAStalledPrimaryWakesSilent(t *testing.T) { onEachQEMU(t, aStalledPrimaryWakesSilent) }

func aStalledPrimaryWakesSilent(t *testing.T, qemu string) {
	s := newStage(t, 2*time.Minute, scene.Options{QEMU: qemu})
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.busy, TCPRate: s.tcp, Stream: 1})
	for n := range 3 {
		from, to := s.Hosts[n%2], s.Hosts[(n+1)%2]
		s.flows(traffic, s.busy)
		s.must(from.StopAll())
		_, err := to.WaitRole(s.ctx, scene.Machine, "solo", "seeding", "protected")
		s.must(err)
		s.flows(traffic, s.busy)
		s.must(s.Wire.Settle(s.ctx))
		before := s.sentBy(from)
		s.must(from.ContAll())
		_, err = to.WaitRole(s.ctx, scene.Machine, "protected")
		s.must(err)
		s.flows(traffic, s.busy)
		s.must(s.Wire.Settle(s.ctx))
		if after := s.sentBy(from); after != before {
			t.Errorf("host %s sent %d frames of the guest after it woke", from.Name, after-before)
		}
	}
	s.verdict(traffic)
}

// TestAHangingQEMUIsLeft: only QEMU is stopped; its host ends it and the
// standby goes on.
func TestAHangingQEMUIsLeft(t *testing.T) { onEachQEMU(t, aHangingQEMUIsLeft) }

func aHangingQEMUIsLeft(t *testing.T, qemu string) {
	s := newStage(t, 2*time.Minute, scene.Options{QEMU: qemu, Configure: func(c *lab.Config) { c.Detection.QEMU = pace.Here().Limit(2 * time.Second).String() }})
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, Stream: 1})
	s.flows(traffic, s.udp)
	s.must(s.A.StopQEMU(scene.Machine))
	_, err := s.B.WaitRole(s.ctx, scene.Machine, "protected")
	s.must(err)
	s.flows(traffic, s.udp)
	if v := s.verdict(traffic).Verdict; v.Lost != 0 {
		t.Errorf("%d packets were lost although only QEMU hung", v.Lost)
	}
}

// TestDaemonsRestartWithoutLoss: a standby's daemon that ends says good-bye, a
// primary's moves its machines away first.
func TestDaemonsRestartWithoutLoss(t *testing.T) {
	s := newStage(t, 2*time.Minute, scene.Options{})
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.flows(traffic, s.udp)
	s.must(s.B.Terminate())
	at := time.Now()
	s.must(s.B.Start(s.ctx))
	_, err := s.A.WaitRole(s.ctx, scene.Machine, "protected")
	s.must(err)
	t.Logf("protected again %v after the standby's daemon had ended", time.Since(at).Round(time.Millisecond))
	s.flows(traffic, s.udp)
	s.must(s.A.Terminate())
	s.must(s.A.Start(s.ctx))
	_, err = s.B.WaitRole(s.ctx, scene.Machine, "protected")
	s.must(err)
	s.flows(traffic, s.udp)
	if v := s.verdict(traffic).Verdict; v.Lost > transitions {
		t.Errorf("%d packets were lost although nothing failed", v.Lost)
	}
}

// TestSupervisorFreesTheGuest: the daemon dies in a checkpoint and there is no
// standby any more. The supervisor gets the voice for the host and lets the
// guest run, silent; a new daemon adopts it.
func TestSupervisorFreesTheGuest(t *testing.T) { onEachQEMU(t, supervisorFreesTheGuest) }

func supervisorFreesTheGuest(t *testing.T, qemu string) {
	s := newStage(t, 2*time.Minute, scene.Options{QEMU: qemu, Faults: true})
	faults, err := s.A.Faults(fault.Copied + "@20")
	s.must(err)
	s.start(faults.Env()...)
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, Stream: 1})
	_, err = faults.Await(s.ctx, fault.Copied)
	s.must(err)
	left, err := s.A.QEMUPid(scene.Machine)
	s.must(err)
	_, err = s.B.PowerOff()
	s.must(err)
	_, err = s.A.Kill()
	s.must(err)
	s.must(scene.Until(s.ctx, func() bool {
		b, err := os.ReadFile(s.A.LogFile())
		return err == nil && strings.Contains(string(b), "the guest is out of COLO")
	}))
	s.must(s.A.Start(s.ctx))
	m, err := s.A.WaitRole(s.ctx, scene.Machine, "solo")
	s.must(err)
	if m.QemuPid != int64(left) {
		t.Errorf("the machine runs in process %d, and was in %d", m.QemuPid, left)
	}
	s.flows(traffic, s.udp)
	s.verdict(traffic)
}

// TestDaemonsThatStoodStill both stop, for longer than any detector waits, and
// go on. Nobody has missed anything, so nothing is taken over and no QEMU is
// ended. Supervisors take a daemon that stands still for 7 s for lost.
func TestDaemonsThatStoodStill(t *testing.T) {
	s := newStage(t, 2*time.Minute, scene.Options{Configure: func(c *lab.Config) { c.Detection.QEMU = pace.Here().Limit(time.Second).String() }})
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, Stream: 1})
	s.flows(traffic, s.udp)
	var before []int
	for _, h := range s.Hosts {
		pid, err := h.QEMUPid(scene.Machine)
		s.must(err)
		before = append(before, pid)
		s.must(h.Stop())
	}
	sent, stood := sentSoFar(traffic), int(min(s.Pace.Limit(2*time.Second), 4*time.Second).Seconds()*float64(s.udp))
	s.must(scene.Until(s.ctx, func() bool { return sentSoFar(traffic) > sent+stood }))
	for _, h := range s.Hosts {
		s.must(h.Cont())
	}
	s.flows(traffic, 2*s.udp)
	for i, h := range s.Hosts {
		if pid, err := h.QEMUPid(scene.Machine); err != nil || pid != before[i] {
			t.Errorf("host %s: QEMU %d, was %d (%v)", h.Name, pid, before[i], err)
		}
	}
	if m, err := s.A.Machine(s.ctx, scene.Machine); err != nil || m.Role != "protected" {
		t.Errorf("the machine is %v on host a (%v)", m, err)
	}
	s.verdict(traffic)
}
