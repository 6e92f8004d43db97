//go:build linux

package main

import "testing"

func TestReapUntil(t *testing.T) {
	for script, want := range map[string]string{
		"exit 3":           "exit status 3",
		"kill -TERM $$":    "signal terminated",
		"sleep 0 & exit 0": "exit status 0", // leaves an orphan
	} {
		pid, err := start([]string{"/bin/sh", "-c", script})
		if err != nil {
			t.Fatal(err)
		}
		if got := reapUntil(pid); got != want {
			t.Errorf("%q ended: %q, want %q", script, got, want)
		}
	}
}

func TestSuperviseSaysWhatDoesNotStart(t *testing.T) {
	if err := supervise([]string{"/no/such/program"}); err == nil {
		t.Error("a missing program is supervised")
	}
}
