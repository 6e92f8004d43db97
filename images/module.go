package images

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/ulikunitz/xz"
)

// module of the guest's kernel; without content it is built in.
type module struct {
	content []byte
	depends []string
}

// moduleName is the kernel's name of the module in a file, "" if it is none.
func moduleName(file string) string {
	name, ok := strings.CutSuffix(strings.TrimSuffix(path.Base(file), ".xz"), ".ko")
	if !ok {
		return ""
	}
	return strings.ReplaceAll(name, "-", "_")
}

// readModule decompresses a module where needed: finit_module would have to be
// told, and not every kernel can.
func readModule(name string, content []byte) (module, error) {
	if strings.HasSuffix(name, ".xz") {
		r, err := xz.NewReader(bytes.NewReader(content))
		if err != nil {
			return module{}, err
		}
		if content, err = io.ReadAll(r); err != nil {
			return module{}, err
		}
	}
	depends, err := dependencies(content)
	return module{content, depends}, err
}

// dependencies are what the module's section .modinfo says (scripts/mod in the
// kernel's source): NUL-ended strings, one of them "depends=a,b".
func dependencies(content []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for _, word := range strings.Split(string(info), "\x00") {
		if list, found := strings.CutPrefix(word, "depends="); found && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}

// unresolved are the modules that others depend on and that are not there yet.
func unresolved(modules map[string]module) map[string]bool {
	missing := map[string]bool{}
	for _, m := range modules {
		for _, d := range m.depends {
			if _, there := modules[d]; !there {
				missing[d] = true
			}
		}
	}
	return missing
}

// loadOrder puts each module behind what it depends on. One that is built into
// the kernel needs no place.
func loadOrder(wanted []string, modules map[string]module) ([]string, error) {
	var order []string
	placed := map[string]bool{}
	var place func(name, reason string) error
	place = func(name, reason string) error {
		m, there := modules[name]
		if !there {
			return fmt.Errorf("the module %s, which %s needs, is not there", name, reason)
		}
		if placed[name] || m.content == nil {
			return nil
		}
		placed[name] = true // before its dependencies, so that a circle ends
		for _, d := range m.depends {
			if err := place(d, name); err != nil {
				return err
			}
		}
		order = append(order, name)
		return nil
	}
	for _, name := range wanted {
		if err := place(name, "the guest"); err != nil {
			return nil, err
		}
	}
	return order, nil
}
