//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	packaged     = "/usr/bin/qemu-system-x86_64"
	qemuSuite    = "trixie"
	qemuPackages = "qemu-system-x86,qemu-utils,seabios,ipxe-qemu"
)

// rootFiles are what the lab uses of an unpacked QEMU.
var rootFiles = []string{
	"lib64/ld-linux-x86-64.so.2",
	"usr/bin/qemu-system-x86_64",
	"usr/bin/qemu-img",
	"usr/share/seabios/bios-256k.bin",
	"usr/share/qemu/efi-virtio.rom",
}

// installQEMU finds or fetches a good QEMU and writes build/bin's
// qemu-system-x86_64, which runs it. Where the system's own package is good,
// as on Debian 13, it is that one.
func installQEMU(ctx context.Context, build, shim string) (version, error) {
	target := filepath.Join(build, "bin", "qemu-system-x86_64")
	root := filepath.Join(build, "cache", "qemu-root")
	if _, err := check(ctx, packaged); err == nil {
		return useWrapper(ctx, target, packagedWrapper(packaged, shim))
	}
	v, err := useRoot(ctx, target, root, shim)
	if err == nil || ctx.Err() != nil {
		return v, err
	}
	if _, there := os.Stat(root); there == nil {
		fmt.Println("setup: the QEMU unpacked earlier is of no use:", err)
	}
	if v, ok := parseVersion(candidate(ctx, "qemu-system-x86")); ok && v.good() {
		if err := apt(ctx, "installing QEMU "+v.String(), append([]string{"install", "-q", "-y", "--no-install-recommends"}, strings.Split(qemuPackages, ",")...)...); err != nil {
			return v, err
		}
		return useWrapper(ctx, target, packagedWrapper(packaged, shim))
	}
	if err := unpackQEMU(ctx, root); err != nil {
		return version{}, err
	}
	return useRoot(ctx, target, root, shim)
}

// useRoot writes the wrapper if the QEMU in root is whole and good.
func useRoot(ctx context.Context, target, root, shim string) (version, error) {
	if absent := missing(root, rootFiles); len(absent) > 0 {
		return version{}, fmt.Errorf("%s lacks %s", root, strings.Join(absent, ", "))
	}
	return useWrapper(ctx, target, rootWrapper(root, shim))
}

func useWrapper(ctx context.Context, target, text string) (version, error) {
	if err := replace(target, []byte(text), 0o755); err != nil {
		return version{}, err
	}
	return check(ctx, target)
}

// unpackQEMU unpacks Debian 13's QEMU beside the system. It takes its place
// only when it is whole, so that an interrupted run leaves nothing to trust.
func unpackQEMU(ctx context.Context, root string) error {
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
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include="+qemuPackages, qemuSuite, unfinished)
	// What it mounts in there goes with it, however it ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := step("unpacking Debian 13's QEMU (380 MB, once)", cmd); err != nil {
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
