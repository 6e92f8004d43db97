package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// TestATapThatIsRemoved costs what arrives there and nothing else: the machine stays
// protected, and is well again once it has been moved to its standby.
func TestATapThatIsRemoved(t *testing.T) {
	s := newStage(t, 2*time.Minute, scene.Options{})
	s.start()
	s.protected(s.NAT())
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, Stream: 1})
	s.flows(traffic, s.udp)
	mark := s.A.EventMark()
	s.must(s.A.Space.Do(func() error {
		tap, err := netlink.LinkByName("sp-nat-in")
		if err != nil {
			return err
		}
		return netlink.LinkDel(tap)
	}))
	_, err := s.A.WaitEvent(s.ctx, mark, lab.Kind(scene.Machine, "tap-lost"))
	s.must(err)
	was, err := s.A.Machine(s.ctx, scene.Machine)
	s.must(err)
	_, err = s.A.WaitMachine(s.ctx, scene.Machine, "20 checkpoints", func(m *control.Machine) bool {
		if m.Role != "protected" || m.Generation != was.Generation {
			t.Fatalf("the machine is %s in generation %d, was in %d: %q", m.Role, m.Generation, was.Generation, m.Warnings)
		}
		return m.Epoch > was.Epoch+20 && strings.Contains(strings.Join(m.Warnings, "\n"), "tap sp-nat-in has been gone for ")
	})
	s.must(err)
	_, err = s.A.Switchover(s.ctx, scene.Machine)
	s.must(err)
	_, err = s.B.WaitRole(s.ctx, scene.Machine, "protected") // by the other host, which makes a new tap
	s.must(err)
	s.flows(traffic, s.udp)
}
