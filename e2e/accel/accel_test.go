package accel

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a false guest does.
const (
	talks  = `echo "[0.0] Linux version 6.1.0"; exec sleep 60`
	silent = `exec sleep 60`
	breaks = `echo "no way" >&2; exit 1`
)

// fakeProbe probes a false QEMU, a shell script that does as told under each
// accelerator and notes its process and that it was started.
func fakeProbe(t *testing.T, underKVM, underTCG string) probe {
	t.Helper()
	dir := t.TempDir()
	script := `#!/bin/sh
case "$*" in
--version) echo "QEMU emulator version 10.0.13 (Fake)"; echo "Copyright"; exit ;;
esac
echo $$ >> ` + dir + `/started
case "$*" in
*"-accel kvm"*) ` + underKVM + ` ;;
*"-accel tcg"*) ` + underTCG + ` ;;
esac
`
	for name, text := range map[string]string{"qemu": script, "kvm": "", "boot_id": "this boot\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return probe{qemu: filepath.Join(dir, "qemu"), kernel: "vmlinuz", memory: filepath.Join(dir, "accel.json"),
		device: filepath.Join(dir, "kvm"), bootID: filepath.Join(dir, "boot_id"), patience: 2 * time.Second}
}

func (p probe) started(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(p.qemu), "started"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name, kvm, tcg string
		accel          string
		answered       bool
		why            string
	}{
		{"yes", talks, silent, "kvm", true, "boots under KVM"},
		{"no: the guest is silent under KVM alone", silent, talks, "tcg", true, "printed nothing within 2s"},
		{"no: QEMU ends under KVM alone", breaks, talks, "tcg", true, "no way"},
		{"could not tell: silent under both", silent, silent, "tcg", false, "could not tell"},
		{"could not tell: QEMU ends under both", breaks, breaks, "tcg", false, "could not tell"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := fakeProbe(t, c.kvm, c.tcg)
			r := p.result(t.Context())
			if r.Accel != c.accel || r.Answered != c.answered || !strings.Contains(r.Why, c.why) {
				t.Errorf("%+v, want %s, answered %v, because %q", r, c.accel, c.answered, c.why)
			}
			if r.Boot != "this boot" || r.QEMU != "QEMU emulator version 10.0.13 (Fake)" {
				t.Errorf("the answer is for %q, %q", r.Boot, r.QEMU)
			}
			for _, pid := range p.started(t) {
				if _, err := os.Stat("/proc/" + pid); err == nil {
					t.Errorf("process %s is left", pid)
				}
			}
		})
	}
}

func TestNoDeviceIsNo(t *testing.T) {
	p := fakeProbe(t, talks, talks)
	p.device += "-gone"
	r := p.result(t.Context())
	if r.Accel != "tcg" || !r.Answered || len(p.started(t)) != 0 {
		t.Errorf("%+v after starting %v", r, p.started(t))
	}
}

func TestAnswerIsRememberedForThisBootAndQEMU(t *testing.T) {
	p := fakeProbe(t, talks, talks)
	first := p.result(t.Context())
	if again := p.result(t.Context()); again != first || len(p.started(t)) != 1 {
		t.Fatalf("%+v, then %+v, after %d starts", first, again, len(p.started(t)))
	}
	if err := os.WriteFile(p.bootID, []byte("the next boot"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := p.result(t.Context()); r.Boot != "the next boot" || len(p.started(t)) != 2 {
		t.Errorf("after a boot: %+v after %d starts", r, len(p.started(t)))
	}
	for _, garbage := range []string{"", "{", `{"accel":"magic","answered":true,"boot":"the next boot","qemu":"QEMU emulator version 10.0.13 (Fake)"}`} {
		if err := os.WriteFile(p.memory, []byte(garbage), 0o644); err != nil {
			t.Fatal(err)
		}
		if r := p.result(t.Context()); r.Accel != "kvm" {
			t.Errorf("with %q remembered: %+v", garbage, r)
		}
	}
}

// Two QEMUs that take turns do not make each other forget.
func TestEachQEMUHasItsMemory(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "qemu")
	if err := os.Symlink("qemu-11", link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "qemu-11"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	one, same, other := memoryOf(filepath.Join(dir, "qemu-11")), memoryOf(link), memoryOf(filepath.Join(dir, "qemu-10.0"))
	if one != same || one == other {
		t.Errorf("%s, by its link %s, the other QEMU's %s", one, same, other)
	}
}

func TestFailureIsNotRemembered(t *testing.T) {
	p := fakeProbe(t, breaks, breaks)
	p.result(t.Context())
	if _, err := os.Stat(p.memory); !os.IsNotExist(err) {
		t.Errorf("the file of answers: %v", err)
	}
}

func TestCancelledCouldNotTell(t *testing.T) {
	p := fakeProbe(t, silent, silent)
	p.patience = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if r := p.result(ctx); r.Answered || r.Accel != "tcg" {
		t.Errorf("%+v", r)
	}
}

func TestNoQEMUCouldNotTell(t *testing.T) {
	p := fakeProbe(t, talks, talks)
	p.qemu += "-gone"
	if r := p.result(t.Context()); r.Answered || r.Accel != "tcg" || !strings.Contains(r.Why, "could not tell") {
		t.Errorf("%+v", r)
	}
}

// TestHere probes this machine, and leaves the answer for the other tests.
func TestHere(t *testing.T) {
	build := filepath.Join("..", "..", "build")
	qemu, kernel := filepath.Join(build, "bin", "qemu-system-x86_64"), filepath.Join(build, "images", "vmlinuz")
	for _, path := range []string{qemu, kernel} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("%v: run make setup", err)
		}
	}
	r := Probe(t.Context(), qemu, kernel, filepath.Join(build, "cache"))
	t.Logf("%s: %s", r.Accel, r.Why)
	if !r.Answered {
		t.Errorf("the probe could not tell: %s", r.Why)
	}
	started := time.Now()
	if again := Probe(t.Context(), qemu, kernel, filepath.Join(build, "cache")); again != r {
		t.Errorf("asked again: %+v, first %+v", again, r)
	}
	if took := time.Since(started); took > patience {
		t.Errorf("the remembered answer took %v", took)
	}
}
