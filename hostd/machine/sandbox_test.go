package machine

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// TestSandbox: a QEMU that knows it, and one that does not.
func TestSandbox(t *testing.T) {
	if _, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail"); err != nil {
		t.Skip("the kernel has no seccomp filters: ", err)
	}
	script := func(text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "qemu")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	knows := script(`case "$*" in "-sandbox on,"*spawn=deny*" -version") exit 0;; esac; exit 1`)
	lacks := script(`echo "-sandbox support is not enabled in this QEMU binary" >&2; exit 1`)
	for _, c := range []struct {
		mode, binary string
		on, fails    bool
	}{
		{SandboxAuto, knows, true, false}, {SandboxOn, knows, true, false}, {SandboxOff, knows, false, false}, {"", knows, false, false},
		{SandboxAuto, lacks, false, false}, {SandboxOn, lacks, false, true}, {SandboxOff, lacks, false, false},
	} {
		m := newMachine(Options{Sandbox: c.mode, Binary: c.binary, Log: hclog.NewNullLogger()})
		got, err := m.sandbox(t.Context())
		if (err != nil) != c.fails || slices.Equal(got, sandboxArguments) != c.on {
			t.Errorf("%q: %q, %v", c.mode, got, err)
		}
		if c.fails {
			wantError(t, err, "not enabled in this QEMU", "qemu.sandbox")
		}
	}
}
