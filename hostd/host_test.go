package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
)

func TestTheHostGoesDown(t *testing.T) {
	for said, want := range map[string]bool{"stopping": true, "running": false, "degraded": false, "": false} {
		dir := t.TempDir()
		t.Setenv("PATH", dir)
		if said != "" {
			script := "#!/bin/sh\ntest \"$*\" = is-system-running && echo " + said + "\ntest " + said + " = running\n"
			if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if got := hostGoesDown(t.Context()); got != want {
			t.Errorf("%q: %v", said, got)
		}
	}
}

// TestTheDaemonIsToldThatItsHostGoesDown: what it is given asks systemd, and what must
// outlive it is there.
func TestTheDaemonIsToldThatItsHostGoesDown(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\necho stopping\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	o := options(config.Default(), hclog.NewNullLogger())
	if o.GoesDown == nil || !o.GoesDown(t.Context()) {
		t.Error("a daemon does not hear that its host goes down")
	}
	if o.Keep == nil || o.Supervise == nil || o.Version == "" || o.Config.Host != config.Default().Host {
		t.Errorf("%+v", o)
	}
}
