package e2e

import (
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/report"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// TestThousandCheckpoints takes them at 20 per second and looks for leaks; a slow
// machine takes fewer.
func TestThousandCheckpoints(t *testing.T) {
	s := newStage(t, 5*time.Minute, scene.Options{})
	warm := uint64(s.Pace.Count(200, 50))
	all := warm + uint64(s.Pace.Count(1000, 150))
	interval := s.Pace.Limit(50 * time.Millisecond)
	s.start()
	m := s.NAT()
	m.Protection.Checkpoint, m.Protection.Interval = "periodic", interval.String()
	s.protected(m)
	traffic := s.traffic(scene.TrafficOptions{Rate: s.udp, TCPRate: s.tcp, Stream: 1})
	s.reached(warm)
	started, before, goroutines := time.Now(), s.usages(), s.goroutines()
	s.reached(all)
	rate := float64(all-warm) / time.Since(started).Seconds()
	after, goroutinesAfter := s.usages(), s.goroutines()
	t.Logf("%.1f checkpoints per second; before %+v and %v goroutines, after %+v and %v", rate, before, goroutines, after, goroutinesAfter)
	s.logParts()
	s.littleOnTheWire()
	if asked := 1 / interval.Seconds(); rate < asked/4 { // a busy machine may take fewer than were asked for
		t.Errorf("%.1f checkpoints per second; asked for are %.1f", rate, asked)
	}
	for i, h := range s.Hosts {
		noGrowth(t, h, before[i], after[i])
		if goroutinesAfter[i] > goroutines[i]+5 {
			t.Errorf("host %s: %d goroutines, %d before", h.Name, goroutinesAfter[i], goroutines[i])
		}
	}
	if v := s.verdict(traffic).Verdict; v.Lost > max(all/400, 1) { // a stop that meets a packet on a busy machine
		t.Errorf("%d packets were lost although nothing failed", v.Lost)
	}
}

// logParts tells what the steps of a checkpoint took.
func (s *stage) logParts() {
	parts := []struct {
		name string
		of   func(*control.Checkpoint) uint64
	}{
		{"quiesce", (*control.Checkpoint).GetQuiesceUs}, {"reply to stopped", (*control.Checkpoint).GetStopUs},
		{"copy", (*control.Checkpoint).GetCopyUs}, {"pause, STOP to RESUME", (*control.Checkpoint).GetPauseUs},
		{"arriving packets wait", (*control.Checkpoint).GetTotalUs}, {"resume to commit", (*control.Checkpoint).GetCommitUs},
	}
	var pages []time.Duration
	for _, part := range parts {
		var all []time.Duration
		pages = pages[:0]
		for _, e := range s.A.Events() {
			if c := e.Checkpoint; c != nil && c.Epoch > 1 {
				all = append(all, time.Duration(part.of(c))*time.Microsecond)
				pages = append(pages, time.Duration(c.Pages)*time.Microsecond)
			}
		}
		q := report.QuantilesOf(all)
		s.t.Logf("%-22s p50 %6.0f us, p95 %6.0f us", part.name, q.P50, q.P95)
	}
	q := report.QuantilesOf(pages)
	s.t.Logf("%-22s p50 %6.0f, p95 %6.0f", "dirty pages", q.P50, q.P95)
}

// littleOnTheWire compares what was dirtied with what was shipped of it.
func (s *stage) littleOnTheWire() {
	s.t.Helper()
	const most = 0.35
	var dirty, device, wire uint64
	for _, e := range s.A.Events() {
		if c := e.Checkpoint; c != nil {
			dirty, device, wire = dirty+c.Bytes, device+c.DeviceBytes, wire+c.WireBytes
		}
	}
	ratio := float64(wire) / float64(dirty)
	s.t.Logf("%d bytes on the wire for %d dirty ones, %d of them device state: %.3f", wire, dirty, device, ratio)
	if ratio > most {
		s.t.Errorf("%.3f of the dirty bytes went over the wire, at most %.2f expected", ratio, most)
	}
}

func (s *stage) reached(checkpoints uint64) {
	s.t.Helper()
	_, err := s.A.WaitMachine(s.ctx, scene.Machine, "more checkpoints", func(m *control.Machine) bool {
		return m.Checkpoints >= checkpoints
	})
	s.must(err)
}

func (s *stage) usages() (all []lab.Usage) {
	s.t.Helper()
	for _, h := range s.Hosts {
		u, err := h.Usage()
		s.must(err)
		all = append(all, u)
	}
	return all
}

func (s *stage) goroutines() (all []uint32) {
	s.t.Helper()
	for _, h := range s.Hosts {
		status, err := h.Status(s.ctx)
		s.must(err)
		all = append(all, status.Goroutines)
	}
	return all
}

// noGrowth allows for what a garbage collector and a scheduler may do, not for
// a leak of one thing per checkpoint.
func noGrowth(t *testing.T, h *lab.Host, before, after lab.Usage) {
	t.Helper()
	const memory = 16<<20 + 64<<20 // the delta cache fills
	if after.Descriptors > before.Descriptors+2 {
		t.Errorf("host %s: %d descriptors, %d before", h.Name, after.Descriptors, before.Descriptors)
	}
	if after.Threads > before.Threads+8 {
		t.Errorf("host %s: %d threads, %d before", h.Name, after.Threads, before.Threads)
	}
	if after.Anonymous > before.Anonymous+memory {
		t.Errorf("host %s: %d bytes of memory, %d before", h.Name, after.Anonymous, before.Anonymous)
	}
}
