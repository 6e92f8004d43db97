package daemon_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestTheStandbyGetsTheMachineTypeByItsVersion: there, "pc" may stand for another.
func TestTheStandbyGetsTheMachineTypeByItsVersion(t *testing.T) {
	a, b := pairOfHosts(t)
	a.mustProtect("m", "series=11")
	if args := b.arguments("m"); !strings.Contains(args, "pc-i440fx-11.0,") {
		t.Errorf("the standby's QEMU was started with %q", args)
	}
}

// arguments of a machine's QEMU.
func (h *host) arguments(machine string) string {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.machine(machine).QemuPid))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\x00", " ")
}
