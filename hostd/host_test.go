package main

import (
	"os"
	"path/filepath"
	"testing"
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
