package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/ulikunitz/xz"
)

const kernelPackage = "linux-image-cloud-amd64"

type kernel struct {
	image   []byte
	modules []file
}

// fetchKernel takes Debian's present cloud kernel, from the cache if it is
// there.
func fetchKernel(ctx context.Context, cache string) (kernel, error) {
	name, err := realPackage(ctx)
	if err != nil {
		return kernel{}, err
	}
	deb, err := download(ctx, cache, name)
	if err != nil {
		return kernel{}, err
	}
	return unpack(ctx, deb)
}

// realPackage is what the metapackage depends on.
func realPackage(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", "--no-recommends", kernelPackage).Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for %s: %w; run apt-get update", kernelPackage, err)
	}
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "linux-image-") && word != kernelPackage {
			return word, nil
		}
	}
	return "", fmt.Errorf("apt knows no package behind %s; run apt-get update", kernelPackage)
}

func download(ctx context.Context, cache, name string) (string, error) {
	pattern := filepath.Join(cache, name+"_*.deb")
	if found, _ := filepath.Glob(pattern); len(found) > 0 {
		return found[len(found)-1], nil
	}
	cmd := exec.CommandContext(ctx, "apt-get", "download", "-q", name)
	cmd.Dir = cache
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w\n%s", name, err, out)
	}
	found, _ := filepath.Glob(pattern)
	if len(found) == 0 {
		return "", fmt.Errorf("apt-get download %s left no package", name)
	}
	return found[0], nil
}

// unpack picks the kernel and the modules out of the package.
func unpack(ctx context.Context, deb string) (k kernel, err error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return k, err
	}
	if err := cmd.Start(); err != nil {
		return k, err
	}
	found := map[string][]byte{}
	err = k.read(tar.NewReader(out), found)
	_, _ = io.Copy(io.Discard, out)
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return k, fmt.Errorf("unpack %s: %w", deb, err)
	}
	return k, k.order(found, deb)
}

func (k *kernel) read(t *tar.Reader, found map[string][]byte) error {
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		base := path.Base(h.Name)
		module, isModule := moduleName(base)
		switch {
		case strings.HasPrefix(base, "vmlinuz-"):
			k.image, err = io.ReadAll(t)
		case isModule && needed(module):
			found[module], err = readModule(base, t)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// order numbers the modules, so that the guest loads them by name.
func (k *kernel) order(found map[string][]byte, deb string) error {
	if k.image == nil {
		return fmt.Errorf("%s has no kernel", deb)
	}
	for i, name := range modules {
		content, ok := found[name]
		if !ok {
			continue // built into this kernel
		}
		k.modules = append(k.modules, file{fmt.Sprintf("modules/%02d-%s.ko", i, name), content, 0o644})
	}
	if len(k.modules) == 0 {
		return fmt.Errorf("%s has none of the modules %v", deb, modules)
	}
	return nil
}

func moduleName(base string) (string, bool) {
	name, ok := strings.CutSuffix(strings.TrimSuffix(base, ".xz"), ".ko")
	return strings.ReplaceAll(name, "-", "_"), ok
}

func needed(module string) bool {
	for _, m := range modules {
		if m == module {
			return true
		}
	}
	return false
}

func readModule(base string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(r)
	if err != nil || !strings.HasSuffix(base, ".xz") {
		return b, err
	}
	x, err := xz.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(x)
}
