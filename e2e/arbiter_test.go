package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// newCluster is a stage whose arbiter is an etcd cluster of both hosts and a
// witness.
func newCluster(t *testing.T, limit time.Duration, o scene.Options) *stage {
	t.Helper()
	o.Arbiter = "etcd"
	s := newStage(t, limit, o)
	s.must(s.StartWith(s.ctx, nil))
	return s
}

// TestAHostDiesWithAMemberOfTheArbiter: the witness and the survivor are a
// quorum. The host that comes back is the standby.
func TestAHostDiesWithAMemberOfTheArbiter(t *testing.T) {
	s := newCluster(t, 2*time.Minute, scene.Options{})
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.flows(traffic, s.udp)
	at, err := s.A.PowerOff()
	s.must(err)
	_, err = s.B.WaitRole(s.ctx, scene.Machine, "solo")
	s.must(err)
	s.flows(traffic, s.udp)
	s.must(s.A.PowerOn(s.ctx))
	_, err = s.B.WaitRole(s.ctx, scene.Machine, "protected")
	s.must(err)
	s.flows(traffic, s.udp)
	s.reportBlackout(s.verdict(traffic), at)
}

// TestThePairOutlivesTheArbiter: without a quorum the pair goes on committing;
// a lost standby then stalls output, and says so, until the arbiter is back.
func TestThePairOutlivesTheArbiter(t *testing.T) {
	pace.SkipOnSlow(t, false)
	s := newCluster(t, 2*time.Minute, scene.Options{})
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, Stream: 1})
	s.flows(traffic, s.udp)
	s.must(s.Lab.Arbiter.Cut())
	s.flows(traffic, 3*s.udp)
	s.must(s.Link.Cut())
	m, err := s.A.WaitMachine(s.ctx, scene.Machine, "a warning about the arbiter", func(m *control.Machine) bool {
		return strings.Contains(strings.Join(m.Warnings, "\n"), "arbiter")
	})
	s.must(err)
	t.Log(m.Warnings)
	s.must(s.Wire.Settle(s.ctx))
	before := s.sentBy(s.A) + s.sentBy(s.B)
	sent := sentSoFar(traffic)
	s.must(scene.Until(s.ctx, func() bool { return sentSoFar(traffic) > sent+s.udp }))
	s.must(s.Wire.Settle(s.ctx))
	if after := s.sentBy(s.A) + s.sentBy(s.B); after != before {
		t.Errorf("%d frames left although nobody could know whose voice it is", after-before)
	}
	s.must(s.Lab.Arbiter.Restore())
	s.flows(traffic, s.udp)
	s.must(s.Link.Restore())
	s.pairComesBack()
	s.flows(traffic, s.udp)
	s.verdict(traffic)
}

// pairComesBack waits until one of the hosts protects the machine by the other.
func (s *stage) pairComesBack() {
	s.t.Helper()
	s.must(scene.Until(s.ctx, func() bool {
		for _, h := range s.Hosts {
			if m, err := h.Machine(s.ctx, scene.Machine); err == nil && m != nil && m.Role == "protected" {
				return true
			}
		}
		return false
	}))
}

// TestPartitionLeavesOneVoice: the hosts lose each other, and both reach the
// arbiter.
func TestPartitionLeavesOneVoice(t *testing.T) {
	s := newCluster(t, 2*time.Minute, scene.Options{})
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.flows(traffic, s.udp)
	at := time.Now()
	s.must(s.Link.Cut())
	s.must(scene.Until(s.ctx, func() bool { return s.speaks(s.A) != s.speaks(s.B) }))
	took := time.Since(at)
	t.Logf("one host had the voice %v after the cut", took.Round(time.Millisecond))
	if limit := s.Pace.Limit(scene.DetectionLimit); took > 8*limit { // a round trip more on an idle machine
		t.Errorf("it took %v; the detection limit is %v", took, limit)
	}
	s.flows(traffic, s.udp)
	if s.speaks(s.A) == s.speaks(s.B) {
		t.Error("both hosts, or neither, have the voice")
	}
	s.must(s.Link.Restore())
	s.pairComesBack()
	s.flows(traffic, s.udp)
	s.reportBlackout(s.verdict(traffic), at)
}

// speaks reports that the machine is alone on the host, by the arbiter's leave.
func (s *stage) speaks(h *lab.Host) bool {
	m, err := h.Machine(s.ctx, scene.Machine)
	return err == nil && m != nil && m.Role == "solo"
}

// TestADamagedMemberTouchesNothingElse: the daemon and its machine live on, and
// say what is wrong.
func TestADamagedMemberTouchesNothingElse(t *testing.T) {
	pace.SkipOnSlow(t, false)
	s := newCluster(t, 2*time.Minute, scene.Options{})
	before, err := s.A.Daemon()
	s.must(err)
	log := func() string {
		b, err := os.ReadFile(s.A.LogFile())
		s.must(err)
		return string(b)
	}
	s.must(scene.Until(s.ctx, func() bool { return strings.Contains(log(), "the arbiter's member on this host is up") }))
	_, err = s.A.KillMember()
	s.must(err)
	s.must(os.Truncate(filepath.Join(s.A.StateDir, "arbiter", "member", "snap", "db"), 8192))
	mark := 0
	_, err = s.A.WaitEvent(s.ctx, mark, func(e lab.Event) bool {
		return e.Kind == "arbiter" && strings.Contains(e.Message, "its process ended: exit status 2")
	})
	s.must(err)
	status, err := s.A.Status(s.ctx)
	s.must(err)
	if text := strings.Join(status.Warnings, "\n"); !strings.Contains(text, "docs/arbiter.md") {
		t.Errorf("warnings %q", text)
	}
	after, err := s.A.Daemon()
	s.must(err)
	if after.PID != before.PID {
		t.Errorf("daemon %d is process %d now", before.PID, after.PID)
	}
	s.protected(s.NAT()) // by the others' word
	if !strings.Contains(log(), "[ERROR] hostd.member: the arbiter's member on this host is down") {
		t.Error("nothing in the log")
	}
}

// TestAnEmptiedMember of the arbiter takes no part until an operator has replaced it.
// Then it makes a quorum as before.
func TestAnEmptiedMember(t *testing.T) {
	pace.SkipOnSlow(t, false)
	s := newCluster(t, 3*time.Minute, scene.Options{})
	s.protected(s.NAT())
	for _, m := range []struct {
		name    string
		empty   func() (int64, error)
		replace func(context.Context, int64) error
		without func() (time.Time, error) // it: the quorum needs the one that was replaced
		back    func() error
	}{
		{"the primary's", s.A.EmptyMember, s.A.ReplaceMember, s.Witness.Kill, func() error { return s.Witness.Start(s.ctx) }},
		{"the witness's", s.Witness.EmptyMember, s.Witness.ReplaceMember, s.A.KillMember, func() error { return nil }},
	} {
		t.Log(m.name)
		since, err := m.empty()
		s.must(err)
		s.must(m.replace(s.ctx, since))
		_, err = m.without()
		s.must(err)
		_, err = s.A.Unprotect(s.ctx, scene.Machine)
		s.must(err)
		_, err = s.A.Protect(s.ctx, scene.Machine, s.B.Name)
		s.must(err)
		s.must(m.back())
	}
}
