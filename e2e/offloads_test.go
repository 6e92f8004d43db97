package e2e

import (
	"regexp"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// TestGuestsThatKeepTheirOffloads: a system that boots leaves its cards' offloads on,
// and the host offers them. The agent's ports still get frames one by one, so TCP
// passes as it does through any router.
func TestGuestsThatKeepTheirOffloads(t *testing.T) {
	const enough = 2 << 20
	s := newStage(t, 3*time.Minute, scene.Options{})
	s.start()
	m := s.NAT("-stats-interval=1s")
	m.Append += " stillpoint.offloads=keep"
	for i := range m.Ports {
		m.Ports[i].Offloads = nil // the daemon's default: on
	}
	s.protected(m)
	traffic := s.traffic(scene.TrafficOptions{Rate: 50, TCPRate: 8 * enough, Stream: 1})
	s.must(scene.Until(s.ctx, func() bool { return traffic.TCPReceived() > enough }))
	s.verdict(traffic)
	counts := regexp.MustCompile(`Oversize:\d+`).FindAllString(s.Console(s.A), -1)
	if len(counts) == 0 {
		t.Fatalf("the guest's console tells no counters:\n%s", s.Console(s.A))
	}
	for _, c := range counts {
		if c != "Oversize:0" {
			t.Fatalf("frames arrived merged: %s; console:\n%s", c, s.Console(s.A))
		}
	}
}
