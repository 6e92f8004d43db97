package images

import (
	"slices"
	"testing"
)

func TestModuleName(t *testing.T) {
	for file, want := range map[string]string{
		"./lib/modules/6.1/kernel/drivers/net/virtio_net.ko":        "virtio_net",
		"./usr/lib/modules/6.12/kernel/drivers/virtio/virtio.ko.xz": "virtio",
		"./lib/modules/6.1/kernel/drivers/char/hw_random/a-b-c.ko":  "a_b_c",
		"./lib/modules/6.1/modules.order":                           "",
		"./boot/vmlinuz-6.1.0":                                      "",
	} {
		if got := moduleName(file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
}

func TestLoadOrder(t *testing.T) {
	modules := map[string]module{
		"net":      {depends: []string{"failover", "dim", "virtio"}},
		"failover": {depends: []string{"core"}},
		"core":     {},
		"dim":      {},
		"virtio":   {depends: []string{"ring"}},
		"ring":     {},
	}
	order, err := loadOrder([]string{"virtio", "net", "built_in"}, modules)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"ring", "virtio", "core", "failover", "dim", "net"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestLoadOrderSaysWhatIsMissing(t *testing.T) {
	for name, modules := range map[string]map[string]module{
		"a dependency": {"net": {depends: []string{"dim"}}},
		"everything":   {},
	} {
		if order, err := loadOrder([]string{"net"}, modules); err == nil {
			t.Errorf("%s is missing: %v", name, order)
		}
	}
}

func TestUnresolved(t *testing.T) {
	got := unresolved(map[string]module{"net": {depends: []string{"dim", "virtio"}}, "virtio": {}})
	if len(got) != 1 || !got["dim"] {
		t.Errorf("unresolved %v, want dim", got)
	}
}

func TestReadModuleRefusesGarbage(t *testing.T) {
	for name, content := range map[string]string{"a.ko": "", "b.ko": "\x7fELF", "c.ko.xz": "not xz"} {
		if m, err := readModule(name, []byte(content)); err == nil {
			t.Errorf("%s: %v", name, m)
		}
	}
}
