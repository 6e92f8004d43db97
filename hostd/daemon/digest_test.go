package daemon_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// heard collects a host's events until the test ends.
type heard struct {
	mu     sync.Mutex
	events []*control.Event
}

func listenTo(h *host) *heard {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := h.client.Events(ctx, &control.EventsRequest{})
	if err != nil {
		h.t.Fatal(err)
	}
	all := &heard{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			e, err := stream.Recv()
			if err != nil {
				return
			}
			all.mu.Lock()
			all.events = append(all.events, e)
			all.mu.Unlock()
		}
	}()
	h.t.Cleanup(func() { cancel(); <-done })
	return all
}

// has an event of the kind whose message says text.
func (l *heard) has(kind, text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == kind && strings.Contains(e.Message, text) {
			return true
		}
	}
	return false
}

// flip a bit in every page of a machine's RAM file that is not all zeros.
func flip(t *testing.T, h *host, name string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(h.config.RAMDir, name+".ram"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, flipped := make([]byte, 4096), 0
	for at := int64(0); ; at += int64(len(page)) {
		if _, err := f.ReadAt(page, at); err != nil {
			break
		}
		if strings.Trim(string(page), "\x00") == "" {
			continue
		}
		if _, err := f.WriteAt([]byte{page[4000] ^ 0x10}, at+4000); err != nil {
			t.Fatal(err)
		}
		flipped++
	}
	if flipped == 0 {
		t.Fatal("no page to damage")
	}
}

// TestADamagedReplicaIsFoundAndMadeAnew: the next epoch, which changes a damaged
// page, is not acknowledged, and the machine is protected again by itself.
func TestADamagedReplicaIsFoundAndMadeAnew(t *testing.T) {
	a, b := pairOfHosts(t)
	told := listenTo(b)
	a.mustStart("m", "seed=20,dirty=20")
	pid := a.machine("m").QemuPid
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	before := b.machine("m").QemuPid
	flip(t, b, "m")
	a.await("the damage to be found", func() bool { return told.has("replica-damaged", "digest") })
	a.await("another protection", func() bool {
		here, there := a.machine("m"), b.machine("m")
		return here.Role == "protected" && there != nil && there.QemuPid != before && there.QemuPid != 0
	})
	if m := a.machine("m"); m.QemuPid != pid {
		t.Errorf("the machine is %v; its QEMU was %d", m, pid)
	}
	epoch := a.machine("m").Epoch
	a.await("epochs after it", func() bool { return a.machine("m").Epoch > epoch+3 })
}

// TestARAMFileThatIsCutShort under a standby ends that standby, and neither its
// daemon, nor the machine, nor another one there.
func TestARAMFileThatIsCutShort(t *testing.T) {
	a, b := pairOfHosts(t)
	told := listenTo(b)
	b.mustStart("other", "")
	a.mustStart("m", "seed=20,dirty=20")
	pid := a.machine("m").QemuPid
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(b.config.RAMDir, "m.ram"), 0); err != nil {
		t.Fatal(err)
	}
	a.await("it to be told", func() bool { return told.has("replica-damaged", "cut short") })
	a.await("another protection", func() bool { return a.machine("m").Role == "protected" && b.machine("m") != nil })
	if m := a.machine("m"); m.QemuPid != pid {
		t.Errorf("the machine is %v; its QEMU was %d", m, pid)
	}
	if m := b.machine("other"); m.Role != "unprotected" || m.QemuPid == 0 {
		t.Errorf("the other machine is %v", m)
	}
}

// TestScrubTellsOfAFlippedBit that no epoch touches, and of none where there is none.
func TestScrubTellsOfAFlippedBit(t *testing.T) {
	a, b := pairOfHosts(t)
	told := listenTo(b)
	a.mustStart("m", "seed=40,dirty=1")
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	scrub := func(h *host, name string) (*control.ScrubReply, error) {
		return h.client.Scrub(h.ctx(), &control.MachineRequest{Name: name})
	}
	good, err := scrub(b, "m")
	if err != nil || good.WrongPages != 0 || good.Pages < 16<<20/4096 {
		t.Fatalf("%v, %v", good, err)
	}
	b.await("the event", func() bool { return told.has("scrubbed", "pages") })
	if m := b.machine("m"); m.Scrubs.GetRuns() != 1 || m.Scrubs.GetPages() != good.Pages || m.Scrubs.GetWrongPages() != 0 {
		t.Errorf("status says %v", m.Scrubs)
	}
	_, err = scrub(a, "m")
	mustFail(t, err, codes.FailedPrecondition, "on host b")
	_, err = scrub(b, "unheard-of")
	mustFail(t, err, codes.NotFound)

	before := b.machine("m").QemuPid
	path := filepath.Join(b.config.RAMDir, "m.ram")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const at = 12<<20 + 5 // a page of zeros
	if _, err := f.WriteAt([]byte{1}, at); err != nil {
		t.Fatal(err)
	}
	bad, err := scrub(b, "m")
	if err != nil || bad.WrongPages != 1 || len(bad.Damage) != 1 || bad.Damage[0].Offset != 12<<20 || bad.Damage[0].Block != "ram0" {
		t.Errorf("%v, %v", bad, err)
	}
	a.await("another protection", func() bool {
		m := b.machine("m")
		return a.machine("m").Role == "protected" && m != nil && m.QemuPid != before && m.QemuPid != 0
	})
	b.await("the event", func() bool { return told.has("replica-damaged", "0xc00000 of ram0") })
	a.await("a good replica", func() bool {
		again, err := scrub(b, "m")
		return err == nil && again.WrongPages == 0
	})
}
