// Package accel finds out whether guests run under KVM here. That /dev/kvm
// opens, and even that QEMU starts with it, proves nothing: only a guest that
// boots does. Where none boots, the same guest is tried under TCG: only if that
// works is KVM to blame.
package accel

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// patience is far more than a guest needs for its first line under KVM.
const patience = 15 * time.Second

// Result of a probe. Its three answers are yes (Answered, kvm), no (Answered,
// tcg) and could not tell (not Answered; TCG is then the safe choice).
type Result struct {
	// Accel is kvm or tcg.
	Accel string `json:"accel"`
	// Why in words.
	Why string `json:"why"`
	// Answered is false where the probe itself failed; such a result is not
	// remembered.
	Answered bool `json:"answered"`
	// Boot and QEMU are what the answer holds for: the machine's boot_id and
	// the first line of QEMU's version.
	Boot string `json:"boot"`
	QEMU string `json:"qemu"`
}

// Probe boots kernel under KVM to its first line, with a deadline, or takes the
// answer that the directory cache remembers for this boot of the machine and
// this QEMU. It takes seconds at most where KVM works, some twenty where it
// does not. It kills only the QEMUs that it starts. Probes may run at the same
// time.
func Probe(ctx context.Context, qemu, kernel, cache string) Result {
	return probe{qemu: qemu, kernel: kernel, memory: filepath.Join(cache, memoryOf(qemu)),
		device: "/dev/kvm", bootID: "/proc/sys/kernel/random/boot_id", patience: patience}.result(ctx)
}

// memoryOf is the file that remembers the answer for a QEMU; links to one QEMU
// have one.
func memoryOf(qemu string) string {
	if path, err := filepath.EvalSymlinks(qemu); err == nil {
		qemu = path
	}
	return "accel-" + filepath.Base(qemu) + ".json"
}

// probe names what a test replaces.
type probe struct {
	qemu, kernel   string
	memory         string // file
	device, bootID string
	patience       time.Duration
}

func (p probe) result(ctx context.Context) Result {
	r := Result{Accel: "tcg"}
	boot, err := os.ReadFile(p.bootID)
	if err != nil {
		r.Why = "could not tell: " + err.Error()
		return r
	}
	r.Boot = strings.TrimSpace(string(boot))
	if r.QEMU, err = version(ctx, p.qemu); err != nil {
		r.Why = "could not tell: " + err.Error()
		return r
	}
	if known, ok := remembered(p.memory, r); ok {
		return known
	}
	p.decide(ctx, &r)
	if r.Answered {
		_ = remember(p.memory, r) // forgetting only costs another probe
	}
	return r
}

func version(ctx context.Context, qemu string) (string, error) {
	out, err := exec.CommandContext(ctx, qemu, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", qemu, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}

func remembered(path string, want Result) (r Result, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &r) != nil {
		return r, false
	}
	valid := r.Accel == "kvm" || r.Accel == "tcg"
	return r, valid && r.Answered && r.Boot == want.Boot && r.QEMU == want.QEMU
}

// remember replaces the file whole: another probe may be reading it.
func remember(path string, r Result) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(temporary, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func (p probe) decide(ctx context.Context, r *Result) {
	device, err := os.OpenFile(p.device, os.O_RDWR, 0)
	if err != nil {
		r.Answered, r.Why = true, "no KVM: "+err.Error()
		return
	}
	device.Close()
	blame := p.boot(ctx, "kvm")
	if blame == nil {
		r.Answered, r.Accel, r.Why = true, "kvm", "a guest boots under KVM"
		return
	}
	if err := p.boot(ctx, "tcg"); err != nil {
		r.Why = fmt.Sprintf("could not tell: under KVM %v, but under TCG %v", blame, err)
		return
	}
	r.Answered, r.Why = true, fmt.Sprintf("%s opens, but under KVM %v; the same guest boots under TCG", p.device, blame)
}
