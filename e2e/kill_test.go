package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/e2e/traffic"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
)

// phases of a checkpoint, as the primary's daemon passes them.
var phases = []string{fault.Requested, fault.Quiescing, fault.Stopped, fault.Copying, fault.Copied,
	fault.Shipping, fault.Sent, fault.Committing}

// ofQEMU are the phases in which QEMU has a part; in the others it is the daemon alone.
var ofQEMU = []string{fault.Stopped, fault.Copied, fault.Sent}

func TestQEMUKilledInEachPhase(t *testing.T) {
	onEachQEMU(t, func(t *testing.T, qemu string) {
		chosen := phases
		if qemu != scene.DefaultQEMU(build) {
			chosen = ofQEMU
		}
		for _, phase := range chosen {
			t.Run(phase, func(t *testing.T) {
				pace.SkipOnSlow(t, phase == fault.Stopped)
				killed(t, qemu, phase, true, func(s *stage) (time.Time, error) { return s.A.KillQEMU(scene.Machine) })
			})
		}
	})
}

func TestHostKilledInEachPhase(t *testing.T) {
	for _, phase := range phases {
		t.Run(phase, func(t *testing.T) {
			pace.SkipOnSlow(t, phase == fault.Sent)
			killed(t, "", phase, false, func(s *stage) (time.Time, error) { return s.A.KillAll() })
		})
	}
}

// killed lets something die while the daemon of the primary stands at a phase,
// and checks that the standby carries on from the last commit. What the machine
// had accepted is not lost, and nothing at all while the daemon lives to pass on
// what arrives.
func killed(t *testing.T, qemu, phase string, daemonLives bool, kill func(*stage) (time.Time, error)) {
	const epoch = 15
	s := newStage(t, 90*time.Second, scene.Options{QEMU: qemu, Faults: true})
	faults, err := s.A.Faults(fmt.Sprintf("%s@%d", phase, epoch))
	s.must(err)
	s.start(faults.Env()...)
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	hit, err := faults.Await(s.ctx, phase)
	s.must(err)
	at, err := kill(s)
	s.must(err)
	_ = hit.Go() // a dead daemon does not go on
	faults.Close()
	m, err := s.B.WaitRole(s.ctx, scene.Machine, "solo")
	s.must(err)
	s.checkEpoch(phase, hit.Epoch, m.Epoch)
	s.flows(traffic, s.udp)
	r := s.verdict(traffic)
	s.reportBlackout(r, at)
	if daemonLives && r.Verdict.Lost != 0 {
		t.Errorf("%d packets were lost although only QEMU died", r.Verdict.Lost)
	}
	s.lostInBlackout(r, at)
}

// checkEpoch holds the epoch that the standby ran from against the phase: once
// it may have acknowledged, it is the epoch in question.
func (s *stage) checkEpoch(phase string, at, ran uint64) {
	s.t.Helper()
	want := []uint64{at - 1}
	switch phase {
	case fault.Sent:
		want = []uint64{at - 1, at} // the acknowledgement races with the death
	case fault.Shipping:
		want = []uint64{at - 1, at} // a dead QEMU's last epoch may still be shipped
	case fault.Committing:
		want = []uint64{at}
	}
	for _, w := range want {
		if ran == w {
			return
		}
	}
	s.t.Errorf("killed while epoch %d was %s, the standby ran from epoch %d; want one of %d", at, phase, ran, want)
}

// lostInBlackout wants every lost packet to have been sent while nobody was
// there to take it, give or take what a packet may take on its way.
func (s *stage) lostInBlackout(r scene.Result, at time.Time) {
	s.t.Helper()
	underWay := s.Pace.Limit(250 * time.Millisecond)
	killed := at.Round(0).Sub(r.Log.Start.Round(0))
	dark, ok := traffic.Blackout(r.Log, killed, 30*time.Second)
	for _, p := range traffic.Lost(r.Log) {
		if !ok || p.At < killed-underWay || p.At > dark.To+underWay {
			s.t.Errorf("packet %d was lost, sent %v after the kill; the blackout ended %v after it", p.Seq, p.At-killed, dark.To-killed)
		}
	}
}

func (s *stage) reportBlackout(r scene.Result, at time.Time) {
	gap, ok := traffic.Blackout(r.Log, at.Round(0).Sub(r.Log.Start.Round(0)), 30*time.Second)
	s.t.Logf("blackout %v (found %v), lost %d, duplicated %d", gap.Length(), ok, r.Verdict.Lost, r.Verdict.Duplicated)
}

// TestADaemonDiesBeforeItsGuestRuns: the standby has won the takeover, and only its
// daemon had the last epoch whole. The next daemon finds QEMU waiting, says that the
// machine is lost and gives up its voice, so that it can be started on any host.
func TestADaemonDiesBeforeItsGuestRuns(t *testing.T) {
	onEachQEMU(t, func(t *testing.T, qemu string) {
		s := newStage(t, 90*time.Second, scene.Options{QEMU: qemu, Faults: true})
		faults, err := s.B.Faults(fault.TakingOver)
		s.must(err)
		s.must(s.StartWith(s.ctx, map[string][]string{s.B.Name: faults.Env()}))
		s.protected(s.NAT())
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			_, _ = s.B.Takeover(s.ctx, scene.Machine) // never answered
		}()
		_, err = faults.Await(s.ctx, fault.TakingOver)
		s.must(err)
		_, err = s.B.Kill()
		s.must(err)
		<-taken
		faults.Close()
		_, err = s.B.QEMU(scene.Machine)
		s.must(err)
		mark := s.B.EventMark()
		s.must(s.B.Start(s.ctx))
		_, err = s.B.WaitEvent(s.ctx, mark, func(e lab.Event) bool { return e.Kind == "machine-lost" })
		s.must(err)
		_, err = s.A.WaitRole(s.ctx, scene.Machine, "fenced")
		s.must(err)
		_, err = s.A.StopMachine(s.ctx, scene.Machine)
		s.must(err)
		_, err = s.A.StartMachine(s.ctx, s.NAT())
		s.must(err)
	})
}
