package daemon_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/stillpoint-ft/stillpoint/e2e/falseqemu"
)

// TestAWritableDiskOfExtraArgs is found, and the machine runs on unprotected.
func TestAWritableDiskOfExtraArgs(t *testing.T) {
	a, b := pairOfHosts(t)
	a.mustStart("m", falseqemu.WritesDisk)
	mustFail(t, a.protect("m", "b"), codes.FailedPrecondition, "writable disk (/srv/m.img)")
	if m := a.machine("m"); m.Role != "unprotected" || m.QemuPid == 0 || !strings.Contains(strings.Join(m.Warnings, " "), "writable disk") {
		t.Errorf("it is %v", m)
	}
	if m := b.machine("m"); m != nil {
		t.Errorf("b has %v", m)
	}
}
