package daemon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/e2e/journal"
	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
)

// TestTheStandbyGetsTheMachineTypeByItsVersion: there, "pc" may stand for another.
func TestTheStandbyGetsTheMachineTypeByItsVersion(t *testing.T) {
	a, b := pairOfHosts(t)
	a.mustProtect("m", "series=11")
	if args := b.arguments("m"); !strings.Contains(args, "pc-i440fx-11.0,") {
		t.Errorf("the standby's QEMU was started with %q", args)
	}
}

// arguments of a machine's QEMU.
func (h *host) arguments(machine string) string {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.machine(machine).QemuPid))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\x00", " ")
}

// TestAStandbysQEMUThatEndsIsExplained, whatever it was asked just then.
func TestAStandbysQEMUThatEndsIsExplained(t *testing.T) {
	a, b := pairOfHosts(t)
	a.mustStart("m", "ends prepared")
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "the standby refuses", "Cannot allocate memory", "runs on here")
	b.gone("m")
}

// TestAMachineTypeThatIsToldLate is no fault of the link to the standby.
func TestAMachineTypeThatIsToldLate(t *testing.T) {
	a, _ := pairOfHostsWith(t, func(c *config.Config) {
		c.Detection.Limit, c.Detection.Heartbeat = yamlfile.Duration(500*time.Millisecond), yamlfile.Duration(50*time.Millisecond)
	})
	a.mustStart("m", "tells late")
	if err := a.protect("m", "b"); err != nil {
		t.Error(err)
	}
}

// TestAStandbyWithAnotherArbiter, of a wrong directory for instance, would never get the
// voice.
func TestAStandbyWithAnotherArbiter(t *testing.T) {
	a, b := pairOfHosts(t)
	other, err := arbiter.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b.restart(func() { b.asked = other })
	a.mustStart("m", "")
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "it has lost its records, or is not the one that host a asks", "runs on here")
	b.gone("m")
	for n := range a.record("m").Generation {
		if _, err := other.TestAndSet(b.ctx(), n, arbiter.Record{Machine: "m", Generation: n + 1, Voice: "c", Kind: "started"}); err != nil {
			t.Fatal(err)
		}
	}
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "host \"c\" has the voice", "all hosts must ask the same arbiter", "runs on here")
}

// TestAStandbyWithAnotherDetectionLimit might stop the machine, or start it anew, while the
// old primary still speaks.
func TestAStandbyWithAnotherDetectionLimit(t *testing.T) {
	a, b := pairOfHosts(t)
	limit := b.config.Detection.Limit
	b.restart(func() { b.config.Detection.Limit = 2 * limit })
	a.mustStart("m", "")
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, fmt.Sprintf("detection.limit is %v on host b and %v on this host", time.Duration(2*limit), time.Duration(limit)), "runs on here")
	b.gone("m")
	b.restart(func() { b.config.Detection.Limit = limit })
	if err := a.protect("m", "b"); err != nil {
		t.Error(err)
	}
}

// TestAnArbiterThatLostItsRecords is told of in the status, and once in the log.
func TestAnArbiterThatLostItsRecords(t *testing.T) {
	a, b := pairOfHosts(t)
	var log journal.Journal
	a.restart(func() {
		a.adjust = func(o *daemon.Options) { o.Log = hclog.New(&hclog.LoggerOptions{Output: &log}) }
	})
	a.mustProtect("m", "")
	record, kept := filepath.Join(a.config.Arbiter.Directory, "m"), filepath.Join(t.TempDir(), "m")
	if err := os.Rename(record, kept); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(int(b.machine("m").QemuPid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a.await("the status to tell", func() bool {
		return strings.Contains(strings.Join(a.machine("m").Warnings, "\n"), "it has lost its records, or is not the one that was asked before")
	})
	if n := log.Count("arbiter denied"); n != 1 {
		t.Errorf("the log tells %d times", n)
	}
	os.RemoveAll(record)
	if err := os.Rename(kept, record); err != nil {
		t.Fatal(err)
	}
	a.await("the machine to go on", func() bool { return a.record("m").Kind != "pair" })
}

// TestAMachineWhoseQEMUHasEnded says so, and nothing of what is true of others.
func TestAMachineWhoseQEMUHasEnded(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	if err := syscall.Kill(int(a.machine("m").QemuPid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a.await("its end", func() bool { return a.machine("m").QemuPid == 0 })
	w := a.machine("m").Warnings
	if len(w) != 1 || !strings.Contains(w[0], "QEMU ended: signal: killed") || !strings.Contains(w[0], "vm start") {
		t.Errorf("%q", w)
	}
}
