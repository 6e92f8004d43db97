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
	image, modules, err := unpackKernel(ctx, p, deb, wanted)
	if err != nil {
		return kernel{}, err
	}
	order, err := loadOrder(wanted, modules)
	if err != nil {
		return kernel{}, fmt.Errorf("%s: %w", deb, err)
	}
	k := kernel{image: image}
	for i, name := range order {
		k.modules = append(k.modules, file{name: fmt.Sprintf("modules/%02d-%s.ko", i, name), content: modules[name].content, mode: 0o644})
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

// unpackKernel reads the package again for as long as modules name others that
// they depend on: once for Debian 12's kernel, twice for Debian 13's.
func unpackKernel(ctx context.Context, p packages, deb string, wanted []string) (image []byte, modules map[string]module, err error) {
	modules = map[string]module{}
	for missing := set(wanted); len(missing) > 0; missing = unresolved(modules) {
		files, err := p.extract(ctx, deb, func(name string) bool {
			return isKernel(name) || missing[moduleName(name)]
		})
		if err != nil {
			return nil, nil, err
		}
		before := len(modules)
		for name, content := range files {
			if isKernel(name) {
				image = content
			} else if modules[moduleName(name)], err = readModule(name, content); err != nil {
				return nil, nil, fmt.Errorf("module %s of %s: %w", name, deb, err)
			}
		}
		if len(modules) == before {
			break // loadOrder says what is missing
		}
	}
	if image == nil {
		return nil, nil, fmt.Errorf("%s has no kernel", deb)
	}
	return image, modules, nil
}

func isKernel(name string) bool {
	return strings.HasPrefix(path.Base(name), "vmlinuz-")
}

func set(names []string) map[string]bool {
	s := map[string]bool{}
	for _, n := range names {
		s[n] = true
	}
	return s
}
