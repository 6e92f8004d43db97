package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/stillpoint-ft/stillpoint/e2e/accel"
	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// describe the machine on which a run measures.
func describe(ctx context.Context, o options) (h host, err error) {
	qemu := scene.QEMUProgram(o.build, o.qemu)
	h.CPU, h.CPUs = processor(), runtime.NumCPU()
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		h.Kernel = strings.TrimSpace(string(b))
	}
	if h.QEMU, err = output(ctx, qemu, "-version"); err != nil {
		return h, err
	}
	h.Accel = accel.Probe(ctx, qemu, lab.ImagesIn(filepath.Join(o.build, "images")).Kernel, filepath.Join(o.build, "cache")).Accel
	h.Version, err = output(ctx, filepath.Join(o.build, "bin", "hostd"), "--version")
	h.Command = strings.TrimSpace("go run ./e2e/bench " + strings.Join(os.Args[1:], " "))
	return h, err
}

// output is the first line that a program prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	b, err := exec.CommandContext(ctx, name, args...).Output()
	line, _, _ := strings.Cut(string(b), "\n")
	return line, err
}

// processor is the model's name, as the kernel tells it.
func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}
