package lab

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// all are the daemon, QEMU and the supervisor of a fake host.
func all(t *testing.T, h *Host) (ps []Process) {
	t.Helper()
	daemon, err := h.Daemon()
	if err != nil {
		t.Fatal(err)
	}
	qemu, err := h.QEMU("nat")
	if err != nil {
		t.Fatal(err)
	}
	supervisor, err := h.Supervisor()
	if err != nil {
		t.Fatal(err)
	}
	return []Process{daemon, qemu, supervisor}
}

func TestStopAll(t *testing.T) {
	h := startFake(t, "FAKE_MACHINE=nat", "FAKE_SUPERVISOR=1")
	ps := all(t, h)
	if err := h.StopAll(); err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if !still(p.PID) {
			t.Errorf("process %d of %v runs", p.PID, ps)
		}
	}
	if _, err := h.Status(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) && err == nil {
		t.Error("a frozen daemon answers")
	}
	if err := h.StopAll(); err != nil {
		t.Errorf("frozen twice: %v", err)
	}
	if err := h.ContAll(); err != nil {
		t.Fatal(err)
	}
	awaitRunning(t, ps...)
	if _, err := h.Status(testContext(t)); err != nil {
		t.Error(err)
	}
}

func awaitRunning(t *testing.T, ps ...Process) {
	t.Helper()
	ctx := within(t, time.Minute)
	for _, p := range ps {
		for still(p.PID) {
			if ctx.Err() != nil {
				t.Fatalf("process %d does not run on", p.PID)
			}
		}
	}
}

func TestStopQEMU(t *testing.T) {
	h := startFake(t, "FAKE_MACHINE=nat", "FAKE_SUPERVISOR=1")
	ps := all(t, h)
	if err := h.StopQEMU("nat"); err != nil {
		t.Fatal(err)
	}
	if still(ps[0].PID) || !still(ps[1].PID) || still(ps[2].PID) {
		t.Error("QEMU alone should be frozen")
	}
	if err := h.ContQEMU("nat"); err != nil {
		t.Fatal(err)
	}
	awaitRunning(t, ps[1])
	if err := h.StopQEMU("other"); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("QEMU of no machine: %v", err)
	}
}

func TestSupervisor(t *testing.T) {
	h := startFake(t, "FAKE_MACHINE=nat", "FAKE_SUPERVISOR=1")
	p, err := h.Supervisor()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Kill(); err != nil {
		t.Fatal(err)
	}
	if again, err := h.Supervisor(); err != nil || again != p {
		t.Errorf("after the daemon's death the supervisor is %v, %v", again, err)
	}
	if at, err := h.KillSupervisor(); err != nil || at.IsZero() {
		t.Fatal(err)
	}
	if _, err := h.Supervisor(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a killed supervisor: %v", err)
	}
	if _, err := h.QEMU("nat"); err != nil {
		t.Errorf("QEMU went with the supervisor: %v", err)
	}
}
