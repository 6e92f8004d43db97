package machine

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

const golden = "testdata/arguments.golden"

func full() Options {
	s := spec.Default()
	s.Name, s.Memory, s.CPUs, s.CPU = "nat", 256<<20, 2, "max"
	s.Kernel, s.Initrd, s.Append = "/k,1", "/i", "console=ttyS0 a=b,c"
	s.Disk = &spec.Disk{Image: "/d,1.qcow2", Format: "qcow2", ReadOnly: true}
	s.Console = "/var/log/nat,1"
	off := false
	s.Ports = []spec.Port{
		{Name: "in", Tap: "sp-in", Uplink: "up-in", MAC: spec.MAC{0x52, 0x54, 0, 0, 0, 1}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}},
		{Name: "out", Tap: "sp-out", Uplink: "up-out", MAC: spec.MAC{0x52, 0x54, 0, 0, 0, 2}, Offloads: &off},
	}
	s.ExtraArgs = []string{"-rtc", "base=utc"}
	return Options{Spec: s, Accel: "tcg", RunDir: "/run/a,b", RAMDir: "/ram/a,b", StateDir: "/state", ExtraArgs: []string{"-msg", "timestamp=on"}}
}

func arguments(o Options) []string { return (&Machine{o: o}).arguments() }

// TestArguments compares with the golden file, one argument a line;
// UPDATE_GOLDEN=1 writes it anew.
func TestArguments(t *testing.T) {
	got := strings.Join(arguments(full()), "\n") + "\n"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestStandbyHasThePrimarysDevices: the same devices in the same order, in
// other directories.
func TestStandbyHasThePrimarysDevices(t *testing.T) {
	primary, standby := full(), full()
	standby.Incoming = true
	want := append(arguments(primary), "-incoming", "defer")
	if got := arguments(standby); !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	standby.RunDir, standby.RAMDir = "/else", "/where"
	if a, b := devices(arguments(primary)), devices(arguments(standby)); !slices.Equal(a, b) {
		t.Errorf("the primary has\n%q\nthe standby\n%q", a, b)
	}
}

func devices(args []string) (list []string) {
	for i, a := range args {
		if a == "-device" || a == "-serial" || a == "-drive" || a == "-machine" {
			list = append(list, args[i+1])
		}
	}
	return list
}

func TestAConsoleFileAddsNoDevice(t *testing.T) {
	with, without := full(), full()
	without.Spec.Console = ""
	count := func(o Options) (n int) {
		for _, a := range arguments(o) {
			if a == "-serial" || a == "-device" {
				n++
			}
		}
		return n
	}
	if count(with) != count(without) {
		t.Errorf("%d devices with a console file, %d without", count(with), count(without))
	}
}

func TestCommasInPathsAreDoubled(t *testing.T) {
	all := strings.Join(arguments(full()), "\n")
	for _, want := range []string{"mem-path=/ram/a,,b/nat.ram", "unix:/run/a,,b/nat.qmp,server=on", "path=/run/a,,b/nat.agent\n",
		"file=/d,,1.qcow2,format", "\n/k,1\n", "\nconsole=ttyS0 a=b,c\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if escape("a,,b") != "a,,,,b" || escape("") != "" {
		t.Error("escape")
	}
}
