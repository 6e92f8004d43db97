package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// needed packages, each with a file that shows that it is there.
var needed = []struct{ name, file string }{
	{"busybox-static", "/bin/busybox"},
	{"debootstrap", "/usr/sbin/debootstrap"},
	{"iproute2", "/sbin/ip"},
}

const (
	qemuSuite    = "trixie"
	qemuPackages = "qemu-system-x86,qemu-utils,seabios,ipxe-qemu"
)

func packages(ctx context.Context) error {
	var missing []string
	for _, p := range needed {
		if _, err := os.Stat(p.file); err != nil {
			missing = append(missing, p.name)
		}
	}
	if len(missing) == 0 && aptKnows(ctx) {
		return nil
	}
	if err := apt(ctx, "reading the lists of Debian packages", "update", "-q"); err != nil {
		return err
	}
	if len(missing) == 0 {
		return nil
	}
	return apt(ctx, "installing "+strings.Join(missing, ", "), append([]string{"install", "-q", "-y", "--no-install-recommends"}, missing...)...)
}

// aptKnows tells whether apt's lists are there, which the guest kernel needs.
func aptKnows(ctx context.Context) bool {
	out, err := exec.CommandContext(ctx, "apt-cache", "show", "linux-image-cloud-amd64").Output()
	return err == nil && len(out) > 0
}

func apt(ctx context.Context, what string, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	return step(what, cmd)
}

// step runs a command and shows that it is at work; its output is shown only
// if it fails.
func step(what string, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started := time.Now()
	fmt.Printf("setup: %s\n", what)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", what, err, out.Bytes())
			}
			return nil
		case <-tick.C:
			fmt.Printf("setup: ... %s, %.0f s\n", what, time.Since(started).Seconds())
		}
	}
}

// installQEMU unpacks Debian 13's QEMU beside the system. The stamp is written
// last, so that an interrupted run starts anew.
func installQEMU(ctx context.Context, build string) error {
	root := filepath.Join(build, "cache", "qemu-root")
	stamp := filepath.Join(root, ".complete")
	if _, err := os.Stat(stamp); err == nil {
		return nil
	}
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include="+qemuPackages, qemuSuite, root)
	if err := step("unpacking Debian 13's QEMU (380 MB, once)", cmd); err != nil {
		return err
	}
	return os.WriteFile(stamp, nil, 0o644)
}

func compileShim(ctx context.Context, build, source string) error {
	target := filepath.Join(build, "cache", "shim.so")
	if newer(target, source) {
		return nil
	}
	return step("compiling the shim for TCG", exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", target, source, "-ldl", "-lpthread"))
}

func newer(target, source string) bool {
	t, err := os.Stat(target)
	s, err2 := os.Stat(source)
	return errors.Join(err, err2) == nil && t.ModTime().After(s.ModTime())
}

// wrapper runs the unpacked QEMU with its own loader and libraries. Under TCG
// it preloads the shim.
func wrapper(ctx context.Context, build string) (version string, err error) {
	path := filepath.Join(build, "bin", "qemu-system-x86_64")
	text := strings.ReplaceAll(wrapperText, "@BUILD@", build)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run the unpacked QEMU: %w\n%s", err, out)
	}
	version, _, _ = strings.Cut(string(out), "\n")
	return version, nil
}

const wrapperText = `#!/bin/sh
# QEMU of Debian 13, run with its own loader and libraries; with the shim under TCG.
root=@BUILD@/cache/qemu-root
libraries=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
preload=
case " $* " in
*accel=tcg*|*"-accel tcg"*) preload="--preload @BUILD@/cache/shim.so" ;;
esac
QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu exec "$root/lib64/ld-linux-x86-64.so.2" \
  --library-path "$libraries" $preload "$root/usr/bin/qemu-system-x86_64" \
  -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu" "$@"
`
