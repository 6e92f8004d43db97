package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const testStateSize = 3 << 20

func TestFillState(t *testing.T) {
	l := newLab(t, Options{StateSize: testStateSize})
	a, b := l.Hosts[0], l.Hosts[1]
	path := filepath.Join(a.StateDir, "record")
	write := func() error { return os.WriteFile(path, make([]byte, 8<<10), 0o644) }
	for range 2 { // the second time it is full already
		if err := a.FillState(); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing to a full disk: %v", err)
	}
	if err := os.WriteFile(filepath.Join(b.StateDir, "record"), make([]byte, 8<<10), 0o644); err != nil {
		t.Errorf("the other host's disk: %v", err)
	}
	if err := os.WriteFile(a.LogFile(), []byte("still logs"), 0o644); err != nil {
		t.Errorf("the log: %v", err)
	}
	for range 2 { // the second time it is free already
		if err := a.FreeState(); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(); err != nil {
		t.Errorf("writing to a free disk: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := traces(t, l.Name); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
}

func TestFillStateNeedsItsOwnFileSystem(t *testing.T) {
	l := newLab(t, Options{Hosts: 1})
	if err := l.Hosts[0].FillState(); err == nil || !strings.Contains(err.Error(), "StateSize") {
		t.Errorf("got %v", err)
	}
}

// TestUnmountLeavesOthersAlone feeds a record with lines that it did not
// write.
func TestUnmountLeavesOthersAlone(t *testing.T) {
	l := newLab(t, Options{Hosts: 1, StateSize: testStateSize})
	other := &record{name: l.Name + "other"}
	if err := os.Mkdir(other.dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(other.dir())
	state := l.Hosts[0].StateDir
	for _, line := range []string{state, strings.TrimPrefix(state, "/"), ""} {
		if err := other.add("mounts", line); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.unmount(); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(state, &fs); err != nil || fs.Blocks*uint64(fs.Bsize) != testStateSize {
		t.Errorf("the state directory is on %+v, %v", fs, err)
	}
}

func TestFillStateFillsNothingElse(t *testing.T) {
	l := newLab(t, Options{Hosts: 1, StateSize: testStateSize})
	h := l.Hosts[0]
	if err := l.record.unmount(); err != nil {
		t.Fatal(err)
	}
	if err := h.FillState(); err == nil {
		t.Error("filled a file system that is not the host's")
	}
	if got, err := os.Stat(h.filler()); err != nil || got.Size() > 2*testStateSize {
		t.Errorf("the filler: %v, %v", got, err)
	}
}
