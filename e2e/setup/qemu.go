//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/stillpoint-ft/stillpoint/e2e/pace"
)

const (
	packaged  = "/usr/bin/qemu-system-x86_64"
	program   = "qemu-system-x86_64" // in build/bin
	qemuSuite = "trixie"
)

var qemuPackages = []string{"qemu-system-x86", "qemu-utils", "seabios", "ipxe-qemu"}

// rootFiles are what the lab uses of an unpacked QEMU.
var rootFiles = []string{
	"lib64/ld-linux-x86-64.so.2",
	"usr/bin/qemu-system-x86_64",
	"usr/bin/qemu-img",
	"usr/share/seabios/bios-256k.bin",
	"usr/share/qemu/efi-virtio.rom",
}

// installQEMUs brings all series and makes the default one qemu-system-x86_64.
func installQEMUs(ctx context.Context, build, shim string) (versions []string, err error) {
	for _, s := range allSeries {
		v, err := s.install(ctx, build, shim)
		if errors.Is(err, errLeftOut) {
			fmt.Printf("setup: QEMU %s is left out, and with it the tests on it: %v\n", s.name, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("QEMU %s: %w", s.name, err)
		}
		versions = append(versions, v.String())
	}
	return versions, link(filepath.Join(build, "bin", program), program+"-"+defaultSeries)
}

// install finds or fetches a good QEMU of the series and writes the wrapper in
// build/bin which runs it. Where the system's own package is good it is that
// one, as 10.0 on Debian 13.
func (s series) install(ctx context.Context, build, shim string) (version, error) {
	target := filepath.Join(build, "bin", program+"-"+s.name)
	root := filepath.Join(build, "cache", s.root)
	if !s.shim {
		shim = ""
	}
	if _, err := s.check(ctx, packaged); err == nil {
		return s.use(ctx, target, packagedWrapper(packaged, shim))
	}
	v, err := s.useRoot(ctx, target, root, shim)
	if err == nil || ctx.Err() != nil {
		return v, err
	}
	if _, there := os.Stat(root); there == nil {
		fmt.Println("setup: the QEMU unpacked earlier is of no use:", err)
	}
	if v, ok := parseVersion(candidate(ctx, "qemu-system-x86")); ok && s.good(v) {
		if err := apt(ctx, "installing QEMU "+v.String(), append([]string{"install", "-q", "-y", "--no-install-recommends"}, qemuPackages...)...); err != nil {
			return v, err
		}
		return s.use(ctx, target, packagedWrapper(packaged, shim))
	}
	if p := pace.Here(); p.Slow() && s.name != defaultSeries {
		return version{}, fmt.Errorf("%w (%v)", errLeftOut, p)
	}
	if err := s.unpack(ctx, root); err != nil {
		return version{}, err
	}
	return s.useRoot(ctx, target, root, shim)
}

// errLeftOut says that a series is not brought: to unpack it takes a slow machine minutes,
// and tests on it are like those on the default one.
var errLeftOut = errors.New("this machine is slow")

// useRoot writes the wrapper if the QEMU in root is whole and good.
func (s series) useRoot(ctx context.Context, target, root, shim string) (version, error) {
	if absent := missing(root, rootFiles); len(absent) > 0 {
		return version{}, fmt.Errorf("%s lacks %s", root, strings.Join(absent, ", "))
	}
	return s.use(ctx, target, rootWrapper(root, shim))
}

func (s series) use(ctx context.Context, target, text string) (version, error) {
	if err := replace(target, []byte(text), 0o755); err != nil {
		return version{}, err
	}
	return s.check(ctx, target)
}

// unpack unpacks Debian 13's QEMU beside the system. It takes its place only
// when it is whole, so that an interrupted run leaves nothing to trust.
func (s series) unpack(ctx context.Context, root string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("unpack Debian 13's QEMU into %s: needs root", root)
	}
	if err := install(ctx, []pkg{
		{"debootstrap", "/usr/sbin/debootstrap"},
		{"debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"},
		{"gpgv", "/usr/bin/gpgv"},
	}); err != nil {
		return err
	}
	unfinished := root + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := s.fill(ctx, unfinished); err != nil {
		return err
	}
	if absent := missing(unfinished, rootFiles); len(absent) > 0 {
		return fmt.Errorf("the unpacked QEMU lacks %s", strings.Join(absent, ", "))
	}
	if err := os.RemoveAll(root); err != nil { // it was there, but was no good
		return err
	}
	return os.Rename(unfinished, root)
}

func (s series) fill(ctx context.Context, root string) error {
	args := []string{"--variant=minbase"}
	if !s.backports {
		args = append(args, "--include="+strings.Join(qemuPackages, ","))
	}
	cmd := exec.CommandContext(ctx, "debootstrap", append(args, qemuSuite, root)...)
	// What it mounts in there goes with it, however it ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := step("unpacking Debian 13 for QEMU "+s.name+" (400 MB, once)", cmd); err != nil || !s.backports {
		return err
	}
	return addBackports(ctx, root)
}

// addBackports gives an unpacked Debian 13 the QEMU of its backports, which are
// where the rest of it came from.
func addBackports(ctx context.Context, root string) error {
	path := filepath.Join(root, "etc/apt/sources.list")
	sources, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	backports, err := backportsOf(string(sources))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path, append(sources, backports...), 0o644); err != nil {
		return err
	}
	if err := step("reading its backports' list", inside(ctx, root, "update", "-q")); err != nil {
		return err
	}
	args := []string{"install", "-q", "-y", "--no-install-recommends", "-t", qemuSuite + "-backports"}
	return step("installing QEMU of its backports", inside(ctx, root, append(args, qemuPackages...)...))
}

// backportsOf is the line for a suite's backports, made of the one for the suite.
func backportsOf(sources string) (string, error) {
	for line := range strings.Lines(sources) {
		fields := strings.Fields(line)
		if len(fields) >= 4 && fields[0] == "deb" && fields[2] == qemuSuite {
			return fmt.Sprintf("deb %s %s-backports main\n", fields[1], qemuSuite), nil
		}
	}
	return "", fmt.Errorf("no line is about %s", qemuSuite)
}

// inside is apt-get of an unpacked Debian.
func inside(ctx context.Context, root string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/usr/bin/apt-get", args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Unshareflags: syscall.CLONE_NEWNS}
	return cmd
}

// compileShim keeps the old library until the new one is whole: QEMUs may have
// it loaded.
func compileShim(ctx context.Context, target, source string) error {
	if newer(target, source) {
		return nil
	}
	cmd := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", target+".new", source, "-ldl", "-lpthread")
	if err := step("compiling the shim for TCG", cmd); err != nil {
		return err
	}
	return os.Rename(target+".new", target)
}
