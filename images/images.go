// Package images builds what guests of the lab boot: a kernel and initial RAM
// disks made of Debian's packages and this project's own programs. The same
// inputs give the same bytes.
package images

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// modules that the guests load, with all that they depend on.
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
	// Progress is called before each step, from the goroutine of Build.
	Progress func(format string, args ...any)
}

// Build makes vmlinuz, nat.cpio.gz (the NAT with its agent) and plain.cpio.gz
// (a routing guest without an agent) in Output. It needs apt's lists, and the
// network only for packages that Cache does not hold. Builds may run at the
// same time, also in one directory: each image is replaced whole.
func Build(ctx context.Context, o Options) error {
	for _, dir := range []string{o.Cache, o.Output} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	p := packages{o.Cache, o.Progress}
	o.Progress("unpacking the guest kernel")
	kernel, err := fetchKernel(ctx, p, modules)
	if err != nil {
		return fmt.Errorf("fetch the guest kernel: %w", err)
	}
	shell, err := fetchBusybox(ctx, p)
	if err != nil {
		return fmt.Errorf("fetch busybox: %w", err)
	}
	o.Progress("compiling the guest programs")
	programs, err := compile(ctx, o)
	if err != nil {
		return err
	}
	o.Progress("writing the images")
	if err := write(filepath.Join(o.Output, "vmlinuz"), kernel.image); err != nil {
		return err
	}
	plain := slices.Concat(kernel.modules, shell, []file{{"init", programs["guestinit"], 0o755}})
	if err := writeArchive(filepath.Join(o.Output, "plain.cpio.gz"), plain); err != nil {
		return err
	}
	nat := slices.Concat(plain, []file{{"nat", programs["nat"], 0o755}})
	return writeArchive(filepath.Join(o.Output, "nat.cpio.gz"), nat)
}

// fetchBusybox takes the static one: nothing else in the images has a library.
func fetchBusybox(ctx context.Context, p packages) ([]file, error) {
	deb, err := p.fetch(ctx, "busybox-static")
	if err != nil {
		return nil, err
	}
	found, err := p.extract(ctx, deb, func(name string) bool { return strings.HasSuffix(name, "/bin/busybox") })
	if err != nil {
		return nil, err
	}
	for _, content := range found {
		return []file{{"bin/busybox", content, 0o755}, {"bin/sh", []byte("busybox"), cpio.TypeSymlink | 0o777}}, nil
	}
	return nil, fmt.Errorf("%s has no bin/busybox", deb)
}

// compile builds the guest's programs, static and without traces of where.
func compile(ctx context.Context, o Options) (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "stillpoint-programs-")
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
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(temporary, content, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
