package e2e

import (
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// transitions of the machine in the test below; QEMU stops the guest at each,
// and may drop a packet that meets the stop unless it waited in the gate.
const transitions = 5

// TestStandbyComesAndGoes: the machine runs on whether an operator ends the
// protection or the standby dies.
func TestStandbyComesAndGoes(t *testing.T) {
	s := newStage(t, 2*time.Minute, scene.Options{})
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.flows(traffic, s.udp)
	m, err := s.A.Unprotect(s.ctx, scene.Machine)
	s.must(err)
	if m.Role != "unprotected" {
		t.Errorf("after unprotect the machine is %s", m.Role)
	}
	s.flows(traffic, s.udp)
	s.must(s.Protect(s.ctx, s.A, s.B))
	s.flows(traffic, s.udp)
	_, err = s.B.KillAll()
	s.must(err)
	_, err = s.A.WaitRole(s.ctx, scene.Machine, "solo")
	s.must(err)
	s.flows(traffic, s.udp)
	s.must(s.B.Restart(s.ctx))
	_, err = s.A.WaitRole(s.ctx, scene.Machine, "protected") // by itself
	s.must(err)
	s.flows(traffic, s.udp)
	if v := s.verdict(traffic).Verdict; v.Lost > transitions || v.Duplicated != 0 {
		t.Errorf("%d packets were lost and %d duplicated although the machine never failed", v.Lost, v.Duplicated)
	}
}

// TestHostLosesPower: no connection is closed in anybody's sight, so only the
// heartbeats tell.
func TestHostLosesPower(t *testing.T) {
	s := newStage(t, 90*time.Second, scene.Options{})
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.flows(traffic, s.udp)
	at, err := s.A.PowerOff()
	s.must(err)
	_, err = s.B.WaitRole(s.ctx, scene.Machine, "solo")
	s.must(err)
	s.flows(traffic, s.udp)
	s.reportBlackout(s.verdict(traffic), at)
}

// TestOperatorTakesOver: the standby is told to run the machine although its
// primary lives, which is fenced.
func TestOperatorTakesOver(t *testing.T) {
	s := newStage(t, 90*time.Second, scene.Options{})
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.flows(traffic, s.udp)
	_, err := s.B.Takeover(s.ctx, scene.Machine)
	s.must(err)
	_, err = s.A.WaitRole(s.ctx, scene.Machine, "fenced", "standby") // it may be the standby already
	s.must(err)
	s.must(s.Wire.Settle(s.ctx))
	before := s.sentBy(s.A)
	s.flows(traffic, s.udp)
	s.must(s.Wire.Settle(s.ctx))
	if after := s.sentBy(s.A); after != before {
		t.Errorf("the fenced host sent %d frames", after-before)
	}
	s.verdict(traffic)
}

// TestASpareTakesThePlace of a standby that does not come back.
func TestASpareTakesThePlace(t *testing.T) {
	s := newStage(t, 2*time.Minute, scene.Options{Hosts: 3})
	s.must(s.StartWith(s.ctx, nil))
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, Stream: 1})
	s.flows(traffic, s.udp)
	_, err := s.B.PowerOff()
	s.must(err)
	_, err = s.A.WaitMachine(s.ctx, scene.Machine, "the spare for its standby", func(m *control.Machine) bool {
		return m.Role == "protected" && m.Peer == s.C.Name
	})
	s.must(err)
	s.flows(traffic, s.udp)
	s.verdict(traffic)
}
