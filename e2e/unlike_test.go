package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// TestUnlikeHosts: a pair of hosts that are not quite alike, as in the midst of an
// upgrade, is refused with the reason, or the standby does take over.
func TestUnlikeHosts(t *testing.T) {
	needLab(t)
	less := func(features ...string) func(*testing.T, *lab.Config) {
		return func(_ *testing.T, c *lab.Config) {
			for _, f := range features {
				c.QEMU.ExtraArgs = append(c.QEMU.ExtraArgs, "-global", "virtio-net-pci."+f+"=off")
			}
		}
	}
	for name, c := range map[string]struct {
		standby  func(*testing.T, *lab.Config)
		offloads bool   // the guest's cards have them
		refused  string // part of the reason; empty: it takes over
	}{
		"its taps lack an offload that the guest does not have": {less("guest_tso6", "host_tso6"), false, ""},
		"its taps lack an offload that the guest has":           {less("guest_tso6", "host_tso6"), true, "does not offer guest_tso6, host_tso6"},
		"its QEMU knows another pc":                             {anotherPC, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pace.SkipOnSlow(t, c.offloads || strings.Contains(name, "pc"))
			s := newStage(t, time.Minute, scene.Options{Configure: func(config *lab.Config) {
				if config.Host == "b" {
					c.standby(t, config)
				}
			}})
			s.start()
			m := s.NAT()
			if c.offloads {
				for i := range m.Ports {
					m.Ports[i].Offloads = nil
				}
			}
			s.must(s.Boot(s.ctx, m))
			_, err := s.A.Protect(s.ctx, scene.Machine, "b")
			if c.refused != "" {
				s.isRefused(err, c.refused)
				return
			}
			s.must(err)
			traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, Stream: 1})
			s.flows(traffic, s.udp)
			_, err = s.A.KillQEMU(scene.Machine)
			s.must(err)
			_, err = s.B.WaitRole(s.ctx, scene.Machine, "solo", "seeding", "protected")
			s.must(err)
			s.flows(traffic, s.udp)
			if v := s.verdict(traffic).Verdict; v.Lost != 0 {
				t.Errorf("%d packets were lost", v.Lost)
			}
		})
	}
}

// isRefused checks that the machine runs on, and that nothing is left at the standby.
func (s *stage) isRefused(err error, why string) {
	s.t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		s.t.Errorf("protect: %v, want %q", err, why)
	}
	m, err := s.A.WaitRole(s.ctx, scene.Machine, "unprotected")
	s.must(err)
	s.t.Log(m.GetWarnings())
	s.must(scene.Until(s.ctx, func() bool { m, _ := s.B.Machine(s.ctx, scene.Machine); return m == nil }))
	s.must(s.AwaitPackets(s.ctx))
}

// anotherPC takes "pc" for an older machine than this QEMU would.
func anotherPC(t *testing.T, c *lab.Config) {
	qemu, err := filepath.Abs(scene.QEMUProgram(build, ""))
	if err != nil {
		t.Fatal(err)
	}
	const script = "#!/bin/bash\nfor a; do [[ $a != pc,* ]] || a=pc-i440fx-9.2,${a#pc,}; all+=(\"$a\"); done\nexec %s \"${all[@]}\"\n"
	c.QEMU.Binary = filepath.Join(t.TempDir(), "qemu-other")
	if err := os.WriteFile(c.QEMU.Binary, fmt.Appendf(nil, script, qemu), 0o755); err != nil {
		t.Fatal(err)
	}
}
