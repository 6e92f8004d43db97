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
	code := []byte("code")
	modules := map[string]module{
		"net":      {code, []string{"failover", "dim", "virtio"}},
		"failover": {code, []string{"core"}},
		"core":     {code, nil},
		"dim":      {code, nil},
		"virtio":   {code, []string{"ring", "built_in"}},
		"ring":     {code, nil},
		"built_in": {},
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
		"a dependency": {"net": {[]byte("code"), []string{"dim"}}},
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

func TestTakeBuiltIn(t *testing.T) {
	u := unpacked{modules: map[string]module{}}
	if err := u.take("./lib/modules/6.12/modules.builtin", []byte("kernel/drivers/virtio/virtio.ko\nkernel/drivers/char/virtio-console.ko\n")); err != nil {
		t.Fatal(err)
	}
	order, err := loadOrder([]string{"virtio", "virtio_console"}, u.modules)
	if err != nil || len(order) != 0 {
		t.Errorf("to load: %v, %v", order, err)
	}
}

func TestReadModuleRefusesGarbage(t *testing.T) {
	for name, content := range map[string]string{"a.ko": "", "b.ko": "\x7fELF", "c.ko.xz": "not xz"} {
		if m, err := readModule(name, []byte(content)); err == nil {
			t.Errorf("%s: %v", name, m)
		}
	}
}
