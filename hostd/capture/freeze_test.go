package capture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// TestMuchDeviceState: a QEMU that writes it has its big lock, and answers the
// monitor only when all of it has been read.
func TestMuchDeviceState(t *testing.T) {
	const checkpoints = 3
	for _, series := range []int{10, 11} {
		for _, device := range []int{64, 300 << 10, 6 << 20} {
			t.Run(fmt.Sprintf("QEMU %d, %d bytes", series, device), func(t *testing.T) {
				q := newFalseQEMU(func(p *peer) error {
					if err := p.send(firstCopy(p.q.series).Bytes()); err != nil {
						return err
					}
					err := p.enterCOLO(device)
					for n := 0; err == nil && n < checkpoints; n++ {
						err = p.checkpoint(checkpoint(p.q.series, device).Bytes())
					}
					return err
				})
				q.series, q.small, q.device = series, true, 8<<20
				taken := 0
				_, err := run(t, q, checkpoints, func(_ *capture.Capture, e *capture.Epoch) {
					taken++
					if len(e.Device) != device {
						t.Errorf("epoch %d: %d bytes of devices", e.Number, len(e.Device))
					}
				})
				if err != nil || q.captured != nil || taken != checkpoints {
					t.Errorf("%d epochs: %v, %v", taken, err, q.captured)
				}
			})
		}
	}
}

// TestSeriesAreToldApart by what QEMU refuses, whatever an earlier protection left
// switched on.
func TestSeriesAreToldApart(t *testing.T) {
	for _, series := range []int{10, 11} {
		for _, before := range []bool{false, true} {
			t.Run(fmt.Sprintf("QEMU %d, return path %v before", series, before), func(t *testing.T) {
				q := newFalseQEMU(good(1))
				q.series = series
				q.capabilities["return-path"] = before
				if _, err := run(t, q, 1, nil); err != nil || q.captured != nil {
					t.Fatal(err, q.captured)
				}
				if on := q.capabilities["return-path"]; on != (series == 11) || !q.capabilities["x-colo"] {
					t.Errorf("capabilities: %v", q.capabilities)
				}
			})
		}
	}
}

// TestNoCOLO tells both reasons for which QEMU refuses it.
func TestNoCOLO(t *testing.T) {
	q := newFalseQEMU(good(1))
	client := q.client(t)
	defer client.Close()
	_, err := capture.Start(t.Context(), capture.Options{Monitor: refuses{client}, Listen: listenIn(t.TempDir())})
	if err == nil || strings.Count(err.Error(), "no COLO today") != 2 || !strings.Contains(err.Error(), "the guest runs on") {
		t.Errorf("got %v", err)
	}
}

type refuses struct{ *qmp.Client }

func (refuses) SetCapabilities(context.Context, map[string]bool) error {
	return &qmp.RefusedError{Description: "no COLO today"}
}

// slow takes pages only when it is let.
type slow struct {
	seeded
	count   *atomic.Int64
	running func() bool
	t       *testing.T
}

func (s *slow) Pages(b *capture.Batch) error {
	s.count.Add(int64(len(b.Pages)))
	if len(b.Pages) > 0 && !s.running() {
		s.t.Errorf("the guest is stopped and waits until %d pages are passed on", len(b.Pages))
	}
	return s.seeded.Pages(b)
}

// TestAStoppedGuestWaitsForNoSeeder: what QEMU sends at the end of the first copy is
// passed on when the guest runs again, in order.
func TestAStoppedGuestWaitsForNoSeeder(t *testing.T) {
	const pages = 1000
	var count atomic.Int64
	q := newFalseQEMU(func(p *peer) error {
		first := firstCopyOf(10, pages, pages).Bytes()
		ending := len(first) - pages*pageSize
		if err := p.send(first[:ending]); err != nil {
			return err
		}
		wait(t, "most of the pages", func() bool { return count.Load() > pages-100 })
		p.q.say("STOP", false)
		if err := p.send(first[ending:]); err != nil {
			return err
		}
		return p.enterCOLO(100)
	})
	client := q.client(t)
	defer client.Close()
	c, err := capture.Start(t.Context(), capture.Options{Monitor: client, Listen: listenIn(t.TempDir()), Limits: colo.DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	defer q.played.Wait()
	defer c.Close()
	s := &slow{seeded{pages: map[capture.Page]byte{}}, &count, func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.running }, t}
	if err := c.Seed(t.Context(), s, func() {}); err != nil {
		t.Fatal(err)
	}
	if s.pages[capture.Page{}] != 0xa1 || len(s.pages) != pages+1 || count.Load() != 2*pages+1 {
		t.Errorf("%d pages, the last of page 0 is %#x", len(s.pages), s.pages[capture.Page{}])
	}
}

// TestTheGauge tells a QEMU that does something from one that does not, and when
// its guest is stopped.
func TestTheGauge(t *testing.T) {
	goOn := make(chan struct{})
	q := newFalseQEMU(func(p *peer) error {
		first := firstCopy(10).Bytes()
		if err := p.send(first[:len(first)/2]); err != nil {
			return err
		}
		<-goOn
		if err := p.send(first[len(first)/2:]); err != nil {
			return err
		}
		if err := p.send([]byte("device")); err != nil {
			return err
		}
		return untilClosed(p)
	})
	client := q.client(t)
	defer client.Close()
	g := new(capture.Gauge)
	c, err := capture.Start(t.Context(), capture.Options{Monitor: client, Listen: listenIn(t.TempDir()), Limits: colo.DefaultLimits(), Gauge: g})
	if err != nil {
		t.Fatal(err)
	}
	defer q.played.Wait()
	done := make(chan error)
	go func() { done <- c.Seed(t.Context(), &seeded{pages: map[capture.Page]byte{}}, func() {}) }()
	wait(t, "half of the first copy", func() bool { return g.Waits() && g.Progress() > 1 })
	before := g.Progress()
	if g.Stopped() {
		t.Error("stopped in the first copy")
	}
	close(goOn)
	wait(t, "the end of it", g.Stopped)
	if g.Progress() == before {
		t.Error("no progress")
	}
	c.Close()
	if err := <-done; err == nil {
		t.Error("the seed went on")
	}
	if g.Waits() {
		t.Error("waits when all is over")
	}
}

func wait(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !condition(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestASeedThatFailsWaitsForNoMonitor: one of its commands is not answered, as the
// stream is read no more.
func TestASeedThatFailsWaitsForNoMonitor(t *testing.T) {
	q := newFalseQEMU(func(p *peer) error {
		if err := p.send(firstCopy(10).Bytes()); err != nil {
			return err
		}
		p.q.lock.Lock()
		defer p.q.lock.Unlock()
		for {
			if _, err := p.Write(bytes.Repeat([]byte{1}, 1<<16)); err != nil {
				return err
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	c := start(t, ctx, q, limit)
	done := make(chan error)
	go func() { done <- c.Seed(ctx, &seeded{pages: map[capture.Page]byte{}}, func() {}) }()
	c.Close()
	select {
	case err := <-done:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(limit):
		t.Error("it waits on")
		cancel()
		<-done
	}
	cancel()
}

// TestFree ends each state in its own way, and never cancels COLO.
func TestFree(t *testing.T) {
	for status, want := range map[string]string{"active": "migrate_cancel", "colo": "x-colo-lost-heartbeat", "completed": "", "failed": "", "none": ""} {
		t.Run(status, func(t *testing.T) {
			q := newFalseQEMU(func(*peer) error { return nil })
			q.status = status
			client := q.client(t)
			defer client.Close()
			if err := capture.Free(t.Context(), client); err != nil {
				t.Fatal(err)
			}
			for _, way := range []string{"migrate_cancel", "x-colo-lost-heartbeat"} {
				if slices.Contains(q.told, way) != (way == want) {
					t.Errorf("told %q", q.told)
				}
			}
		})
	}
}

// TestAGuestThatHasStoppedItself is free once it has left COLO, and stays as it is: to
// sleep, or to hit an error, is its own doing.
func TestAGuestThatHasStoppedItself(t *testing.T) {
	for _, itself := range []string{"suspended", "guest-panicked", "internal-error", "io-error", "watchdog", "shutdown"} {
		for _, status := range []string{"colo", "completed", "none"} {
			q := newFalseQEMU(func(*peer) error { return nil })
			q.status, q.itself = status, itself
			client := q.client(t)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			if err := capture.Free(ctx, client); err != nil {
				t.Errorf("%s, its migration %s: %v", itself, status, err)
			}
			cancel()
			client.Close()
			if slices.Contains(q.told, "cont") || slices.Contains(q.told, "x-colo-lost-heartbeat") != (status == "colo") {
				t.Errorf("%s, its migration %s: told %q", itself, status, q.told)
			}
		}
	}
}

// TestACopyThatEntersCOLOIsNotCancelled: it was about to when its connection closed.
func TestACopyThatEntersCOLOIsNotCancelled(t *testing.T) {
	q := newFalseQEMU(func(*peer) error { return nil })
	q.status, q.running, q.enters = "device", false, true
	client := q.client(t)
	defer client.Close()
	if err := capture.Free(t.Context(), client); err != nil {
		t.Error(err)
	}
	if slices.Contains(q.told, "migrate_cancel") {
		t.Errorf("told %q", q.told)
	}
}

// TestAQEMUThatWaitsForAGuest has none to free: one that is not connected to, whatever
// it calls that. One that is being filled is waited for.
func TestAQEMUThatWaitsForAGuest(t *testing.T) {
	for status, want := range map[string]error{"none": capture.ErrNeverRan, "setup": capture.ErrNeverRan, "postcopy-active": context.DeadlineExceeded} {
		t.Run(status, func(t *testing.T) {
			q := newFalseQEMU(func(*peer) error { return nil })
			q.status, q.waits = status, true
			client := q.client(t)
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := capture.Free(ctx, client); !errors.Is(err, want) {
				t.Error(err)
			}
			client.Close() // nobody tells it anything any more
			if slices.Contains(q.told, "migrate_cancel") {
				t.Errorf("told %q", q.told)
			}
		})
	}
}
