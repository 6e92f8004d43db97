package images

import (
	"context"
	"fmt"
	"os/exec"
	"path"
	"strings"
)

const kernelPackage = "linux-image-cloud-amd64"

type kernel struct {
	image   []byte
	modules []file
}

// fetchKernel takes Debian's present cloud kernel and the modules wanted, with
// all that they depend on, in an order in which they can be loaded.
func fetchKernel(ctx context.Context, p packages, wanted []string) (kernel, error) {
	name, err := realPackage(ctx)
	if err != nil {
		return kernel{}, err
	}
	deb, err := p.fetch(ctx, name)
	if err != nil {
		return kernel{}, err
	}
	u, err := unpackKernel(ctx, p, deb, wanted)
	if err != nil {
		return kernel{}, err
	}
	order, err := loadOrder(wanted, u.modules)
	if err != nil {
		return kernel{}, fmt.Errorf("%s: %w", deb, err)
	}
	k := kernel{image: u.image}
	for i, name := range order {
		k.modules = append(k.modules, file{fmt.Sprintf("modules/%02d-%s.ko", i, name), u.modules[name].content, 0o644})
	}
	return k, nil
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

// unpacked is what a kernel's package holds of what is wanted.
type unpacked struct {
	image   []byte
	modules map[string]module
}

// unpackKernel reads the package again for as long as modules name others that
// they depend on: once where all of them are wanted anyway.
func unpackKernel(ctx context.Context, p packages, deb string, wanted []string) (unpacked, error) {
	u := unpacked{modules: map[string]module{}}
	for absent := set(wanted); len(absent) > 0; absent = unresolved(u.modules) {
		files, err := p.extract(ctx, deb, func(name string) bool {
			return isKernel(name) || isBuiltIn(name) || absent[moduleName(name)]
		})
		if err != nil {
			return u, err
		}
		before := len(u.modules)
		for name, content := range files {
			if err := u.take(name, content); err != nil {
				return u, fmt.Errorf("%s of %s: %w", name, deb, err)
			}
		}
		if len(u.modules) == before {
			break // loadOrder says what is missing
		}
	}
	if u.image == nil {
		return u, fmt.Errorf("%s has no kernel", deb)
	}
	return u, nil
}

func (u *unpacked) take(name string, content []byte) (err error) {
	switch {
	case isKernel(name):
		u.image = content
	case isBuiltIn(name):
		for line := range strings.Lines(string(content)) {
			u.modules[moduleName(strings.TrimSpace(line))] = module{}
		}
	default:
		u.modules[moduleName(name)], err = readModule(name, content)
	}
	return err
}

func isKernel(name string) bool {
	return strings.HasPrefix(path.Base(name), "vmlinuz-")
}

// isBuiltIn tells the list of the modules that are part of the kernel
// (Documentation/kbuild/kbuild.rst).
func isBuiltIn(name string) bool {
	return path.Base(name) == "modules.builtin"
}

func set(names []string) map[string]bool {
	s := map[string]bool{}
	for _, n := range names {
		s[n] = true
	}
	return s
}
