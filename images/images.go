// Package images builds what guests of the lab boot: a kernel and initial RAM
// disks made of Debian's packages and this project's own programs. The same
// inputs give the same bytes.
package images

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
)

// modules that the guests load, in this order.
var modules = []string{
	"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
	"failover", "net_failover", "virtio_net", "virtio_blk", "virtio_console",
}

// Options of a build.
type Options struct {
	// Module is the root of this project's source.
	Module string
	// Cache keeps packages between builds; Output gets the images.
	Cache, Output string
	// Progress is called before each step.
	Progress func(format string, args ...any)
}

// Build makes vmlinuz, nat.cpio.gz (the NAT with its agent) and plain.cpio.gz
// (a routing guest without an agent) in Output.
func Build(ctx context.Context, o Options) error {
	for _, dir := range []string{o.Cache, o.Output} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	o.Progress("fetching the guest kernel's package")
	kernel, err := fetchKernel(ctx, o.Cache)
	if err != nil {
		return fmt.Errorf("fetch the guest kernel: %w", err)
	}
	o.Progress("compiling the guest programs")
	programs, err := compile(ctx, o)
	if err != nil {
		return err
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("read busybox (package busybox-static): %w", err)
	}
	o.Progress("writing the images")
	if err := write(filepath.Join(o.Output, "vmlinuz"), kernel.image); err != nil {
		return err
	}
	common := append(kernel.modules, file{"init", programs["guestinit"], 0o755}, file{"bin/busybox", busybox, 0o755})
	nat := append(append([]file{}, common...), file{"nat", programs["nat"], 0o755})
	if err := writeArchive(filepath.Join(o.Output, "nat.cpio.gz"), nat); err != nil {
		return err
	}
	return writeArchive(filepath.Join(o.Output, "plain.cpio.gz"), common)
}

// compile builds the guest's programs, static and without traces of where.
func compile(ctx context.Context, o Options) (map[string][]byte, error) {
	dir, err := os.MkdirTemp(o.Cache, "programs-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	programs := map[string][]byte{}
	for name, pkg := range map[string]string{"guestinit": "./images/guestinit", "nat": "./images/nat/cmd/nat"} {
		target := filepath.Join(dir, name)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", target, pkg)
		cmd.Dir = o.Module
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("compile %s: %w\n%s", pkg, err, out)
		}
		if programs[name], err = os.ReadFile(target); err != nil {
			return nil, err
		}
	}
	return programs, nil
}

// write replaces a file whole, and leaves an equal one alone.
func write(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(content) {
		return nil
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func sorted(files []file) []file {
	s := append([]file{}, files...)
	sort.Slice(s, func(i, j int) bool { return s[i].name < s[j].name })
	return s
}
