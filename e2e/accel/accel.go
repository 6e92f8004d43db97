// Package accel finds out whether guests run under KVM here. That /dev/kvm
// opens, and even that QEMU starts with it, proves nothing: only a guest that
// boots does.
package accel

import (
	"bytes"
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

// Result of a probe.
type Result struct {
	// Accel is kvm or tcg.
	Accel string `json:"accel"`
	// Why in words.
	Why string `json:"why"`
	// Known is false where the probe itself failed; TCG is then the safe answer.
	Known bool `json:"known"`
	// Boot and QEMU are what the answer holds for.
	Boot string `json:"boot"`
	QEMU string `json:"qemu"`
}

// Probe boots a kernel under KVM to its first line, or takes the remembered
// answer for this boot of the machine and this QEMU.
func Probe(ctx context.Context, qemu, kernel, cache string) Result {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	version, err := exec.CommandContext(ctx, qemu, "--version").Output()
	if err != nil {
		return Result{Accel: "tcg", Why: fmt.Sprintf("run %s: %v", qemu, err)}
	}
	memory := filepath.Join(cache, "accel.json")
	fresh := Result{Boot: strings.TrimSpace(string(boot)), QEMU: strings.TrimSpace(string(version))}
	if r, ok := remembered(memory, fresh); ok {
		return r
	}
	fresh.decide(ctx, qemu, kernel)
	if b, err := json.Marshal(fresh); err == nil && fresh.Known {
		_ = os.WriteFile(memory, b, 0o644) // forgetting only costs another probe
	}
	return fresh
}

func remembered(path string, want Result) (r Result, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &r) != nil {
		return r, false
	}
	return r, r.Known && r.Boot == want.Boot && r.QEMU == want.QEMU
}

func (r *Result) decide(ctx context.Context, qemu, kernel string) {
	r.Accel = "tcg"
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		r.Known, r.Why = true, "no KVM: "+err.Error()
		return
	}
	device.Close()
	booted, err := boots(ctx, qemu, kernel)
	switch {
	case booted:
		r.Known, r.Accel, r.Why = true, "kvm", "a guest boots under KVM"
	case err != nil && ctx.Err() == nil:
		r.Known, r.Why = true, fmt.Sprintf("/dev/kvm opens, but QEMU does not run with it: %v", err)
	case ctx.Err() != nil:
		r.Why = "could not tell: " + ctx.Err().Error()
	default:
		r.Known, r.Why = true, fmt.Sprintf("/dev/kvm opens, but a guest printed nothing within %v", patience)
	}
}

// boots reports whether the kernel prints a line. An error means that QEMU
// ended by itself.
func boots(ctx context.Context, qemu, kernel string) (bool, error) {
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(limit, qemu, "-accel", "kvm", "-m", "128M", "-nodefaults", "-display", "none",
		"-serial", "stdio", "-kernel", kernel, "-append", "console=ttyS0 panic=-1", "-no-reboot")
	var out firstLine
	out.seen = cancel
	cmd.Stdout = &out
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if out.found {
		return true, nil
	}
	if limit.Err() != nil {
		return false, nil
	}
	return false, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
}

// firstLine ends the guest at its kernel's first line.
type firstLine struct {
	text  []byte
	found bool
	seen  func()
}

func (f *firstLine) Write(b []byte) (int, error) {
	if len(f.text) < 1<<16 {
		f.text = append(f.text, b...)
	}
	if !f.found && bytes.Contains(f.text, []byte("Linux version")) {
		f.found = true
		f.seen()
	}
	return len(b), nil
}
