package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/vishvananda/netlink"
)

// TestWhatTheGuestSendsReachesItsHost stops the guest often, on a host whose processors
// are busy, under more than it carries. Some of what arrives finds no room and is
// counted. What the application sends, whose kernel has a discipline that drops packets
// which wait, all comes out of QEMU, and leaves.
func TestWhatTheGuestSendsReachesItsHost(t *testing.T) {
	onEachQEMU(t, whatTheGuestSendsReachesItsHost)
}

func whatTheGuestSendsReachesItsHost(t *testing.T, qemu string) {
	const rate, requests = 2000, 20000
	s := newStage(t, 2*time.Minute, scene.Options{QEMU: qemu})
	s.start()
	m := s.NAT("-stats-interval=1s")
	m.Protection.Overhead = "50%"
	s.protected(m)
	idle := s.busyProcessors()
	traffic := s.traffic(scene.TrafficOptions{Rate: rate, Stream: 1})
	s.must(scene.Until(s.ctx, func() bool { return sentSoFar(traffic) > requests }))
	_, err := traffic.Stop(s.ctx)
	s.must(err)
	idle()
	sent := s.guestSent(len(m.Ports))
	for i, port := range m.Ports {
		if arrived := s.fromGuest(s.A, port.Tap); arrived != sent[i] {
			t.Errorf("of %d packets that were sent by port %s %d came out of QEMU", sent[i], port.Name, arrived)
		}
	}
	s.must(scene.Until(s.ctx, func() bool {
		status, err := s.A.Machine(s.ctx, scene.Machine)
		return err == nil && status.Output.GetHeldFrames() == 0
	}))
	status, err := s.A.Machine(s.ctx, scene.Machine)
	s.must(err)
	t.Logf("%d checkpoints; sent %v; %v", status.Checkpoints, sent, status.Output)
	if out := status.Output; out.Released != sent[0]+sent[1] {
		t.Errorf("of %v packets %d left the host", sent, out.Released)
	}
}

// busyProcessors keeps every processor of the host busy.
func (s *stage) busyProcessors() (idle func()) {
	s.t.Helper()
	var all []*exec.Cmd
	for range runtime.NumCPU() {
		c := exec.CommandContext(s.ctx, "sh", "-c", "while :; do :; done")
		s.must(c.Start())
		all = append(all, c)
	}
	return func() {
		for _, c := range all {
			_ = c.Process.Kill()
			_ = c.Wait() // that it was killed
		}
	}
}

var sentByPort = regexp.MustCompile(`eth\d: \{Received:\d+ Taken:\d+ Sent:(\d+)`)

// guestSent is what the guest's application has sent by each port, once that is all.
func (s *stage) guestSent(ports int) (frames []uint64) {
	s.t.Helper()
	known := len(sentByPort.FindAllString(s.Console(s.A), -1))
	s.must(scene.Until(s.ctx, func() bool {
		told := sentByPort.FindAllStringSubmatch(s.Console(s.A), -1)
		told = told[:len(told)/ports*ports]
		if len(told) < known+3*ports {
			return false
		}
		last, before := told[len(told)-ports:], told[len(told)-2*ports:len(told)-ports]
		frames = nil
		for _, counter := range last {
			n, err := strconv.ParseUint(counter[1], 10, 64)
			s.must(err)
			frames = append(frames, n)
		}
		return slices.EqualFunc(last, before, func(a, b []string) bool { return a[1] == b[1] })
	}))
	return frames
}

// fromGuest counts the frames that QEMU has written to a tap.
func (s *stage) fromGuest(h *lab.Host, tap string) (frames uint64) {
	s.t.Helper()
	s.must(h.Space.Do(func() error {
		link, err := netlink.LinkByName(tap)
		if err != nil {
			return fmt.Errorf("find tap %s: %w", tap, err)
		}
		frames = link.Attrs().Statistics.RxPackets
		return nil
	}))
	return frames
}
