package lab

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// startFake makes a lab whose host a runs the fake daemon.
func startFake(t *testing.T, env ...string) *Host {
	t.Helper()
	l := newLab(t, Options{HostdBinary: os.Args[0]})
	h := l.Hosts[0]
	if err := h.Start(testContext(t), append(env, role+"=daemon")...); err != nil {
		t.Fatal(err)
	}
	return h
}

func alive(t *testing.T, h *Host) int {
	t.Helper()
	ps, err := h.Processes()
	if err != nil {
		t.Fatal(err)
	}
	return len(ps)
}

func TestHostStartsAndDies(t *testing.T) {
	h := startFake(t, "FAKE_MACHINE=nat")
	if err := h.Start(testContext(t)); err == nil {
		t.Error("started twice")
	}
	if pid, err := h.QEMUPid("nat"); err != nil || pid == 0 {
		t.Fatalf("QEMU: %d, %v", pid, err)
	}
	if _, err := h.QEMU("na"); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("QEMU of no machine: %v", err)
	}
	if u, err := h.Usage(); err != nil || u.CPU <= 0 || u.Descriptors < 4 || u.Threads < 1 || u.RSS < 1<<20 {
		t.Errorf("usage %+v, %v", u, err)
	}
	before := time.Now()
	at, err := h.Kill()
	if err != nil || at.Before(before) {
		t.Fatalf("killed at %v: %v", at, err)
	}
	if n := alive(t, h); n != 1 {
		t.Errorf("%d processes after the daemon's death, want QEMU only", n)
	}
	if _, err := h.KillQEMU("nat"); err != nil {
		t.Error(err)
	}
	if n := alive(t, h); n != 0 {
		t.Errorf("%d processes live", n)
	}
	if err := h.Stop(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Stop of a dead daemon: %v", err)
	}
	if err := h.Restart(testContext(t), role+"=daemon"); err != nil {
		t.Error(err)
	}
}

func TestKillAll(t *testing.T) {
	h := startFake(t, "FAKE_MACHINE=nat")
	if n := alive(t, h); n != 2 {
		t.Fatalf("%d processes, want 2", n)
	}
	at, err := h.KillAll()
	if err != nil || at.IsZero() {
		t.Fatal(err)
	}
	t.Logf("host dead %v after the first signal", time.Since(at))
	if n := alive(t, h); n != 0 {
		t.Errorf("%d processes live", n)
	}
}

func TestPower(t *testing.T) {
	h := startFake(t, "FAKE_MACHINE=nat")
	ram := filepath.Join(h.RAMDir, "nat.ram")
	disk := filepath.Join(h.StateDir, "disk")
	for _, path := range []string{ram, disk} {
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.PowerOff(); err != nil {
		t.Fatal(err)
	}
	sendFrame(t, h.Space, UplinkIn, testFrame(MAC{2, 1}, 60))
	if err := h.lab.Wire.Settle(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if heard := h.lab.Wire.Frames(func(f Frame) bool { return f.Source == MAC{2, 1} && !f.Sent }); len(heard) > 0 {
		t.Errorf("a host without power was heard: %+v", heard)
	}
	if err := h.PowerOn(testContext(t), role+"=daemon"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(ram); err == nil {
		t.Error("memory outlived the power")
	}
	if _, err := os.Stat(disk); err != nil {
		t.Error(err)
	}
}

func TestStopAndCont(t *testing.T) {
	h := startFake(t)
	p, err := h.Daemon()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Stop(); err != nil {
		t.Fatal(err)
	}
	if !still(p.PID) {
		t.Error("the daemon runs after Stop")
	}
	if err := h.Cont(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Status(testContext(t)); err != nil {
		t.Errorf("after Cont: %v", err)
	}
	if err := h.Terminate(); err != nil {
		t.Fatal(err)
	}
}

func TestStartTellsWhyADaemonEnded(t *testing.T) {
	l := newLab(t, Options{HostdBinary: os.Args[0]})
	err := l.Hosts[1].Start(testContext(t), role+"=daemon", "FAKE_END=1")
	var f *Failure
	if !errors.As(err, &f) || !strings.Contains(err.Error(), "no arbiter, no life") {
		t.Fatalf("got %v", err)
	}
}

func TestFaults(t *testing.T) {
	l := newLab(t, Options{HostdBinary: os.Args[0], Hosts: 1})
	h, ctx := l.Hosts[0], testContext(t)
	f, err := h.Faults("stopped", "copying", "shipping")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(ctx, append(f.Env(), role+"=daemon")...); err != nil {
		t.Fatal(err)
	}
	for want := uint64(1); want < 4; want++ {
		hit, err := f.Await(ctx, "copying") // the other steps pass
		if err != nil || hit.Epoch != want || hit.Label != "copying" {
			t.Fatalf("got %+v, %v", hit, err)
		}
		if err := hit.Go(); err != nil {
			t.Fatal(err)
		}
	}
	hit, err := f.Await(ctx, "")
	if err != nil || hit.Label != "shipping" {
		t.Fatalf("got %+v, %v", hit, err)
	}
	if err := hit.Go(); err != nil {
		t.Fatal(err)
	}
	if err := f.Pass(within(t, 20*time.Millisecond)); err != nil {
		t.Errorf("pass: %v", err)
	}
	if _, err := h.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Await(ctx, ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("await after Close: %v", err)
	}
}

func TestParseProcess(t *testing.T) {
	p, err := parseProcess("12 345")
	if err != nil || p != (Process{12, 345}) || p.line() != "12 345" {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, bad := range []string{"", "12", "12 ", "x 1", "1 x"} {
		if p, err := parseProcess(bad); err == nil {
			t.Errorf("%q is %+v", bad, p)
		}
	}
}

func TestProcessOfAnotherTimeIsNotSignalled(t *testing.T) {
	self, err := FindProcess(os.Getpid())
	if err != nil || !self.Alive() {
		t.Fatalf("%+v, %v", self, err)
	}
	former := Process{self.PID, self.Started - 1}
	if former.Alive() {
		t.Error("a former owner of the pid lives")
	}
	if err := former.Signal(15); !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("signal: %v", err)
	}
	if err := former.Wait(testContext(t)); err != nil {
		t.Error(err)
	}
}

func TestSweepLeavesTheLivingAlone(t *testing.T) {
	l := newLab(t, Options{Hosts: 1})
	swept, err := Sweep()
	if err != nil || slices.Contains(swept, l.Name) {
		t.Fatalf("swept %q, %v", swept, err)
	}
	if _, err := inodeOf(l.Net.path()); err != nil {
		t.Error(err)
	}
}
