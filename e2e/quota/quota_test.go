//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestPercent(t *testing.T) {
	for text, want := range map[string]int{"50%": 50, "25": 25, "100%": 100, "0%": 0, "101%": 0, "x": 0, "": 0, "-5%": 0} {
		if got, err := percent(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
}

// The files of both versions, as a directory has them.
func TestLimit(t *testing.T) {
	for version, files := range map[int][]string{1: {"cpu/cpu.cfs_quota_us"}, 2: {"cgroup.controllers", "cgroup.subtree_control"}} {
		root := t.TempDir()
		for _, name := range files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		g, err := newGroup(root, "g")
		if err != nil {
			t.Fatal(err)
		}
		if err := g.limit(50_000); err != nil {
			t.Fatal(err)
		}
		want := map[int]map[string]string{1: {"cpu/g/cpu.cfs_quota_us": "50000", "cpu/g/cpu.cfs_period_us": "100000"},
			2: {"g/cpu.max": "50000 100000", "cgroup.subtree_control": "+cpu"}}
		for name, text := range want[version] {
			if b, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(b) != text {
				t.Errorf("version %d: %s holds %q, %v, want %q", version, name, b, err, text)
			}
		}
	}
	if _, err := newGroup(t.TempDir(), "g"); err == nil {
		t.Error("a group was made where there are none")
	}
}

// TestRun holds for what the kernel here offers: the command's end is passed on,
// it ran in the group, and nothing is left.
func TestRun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("control groups need root")
	}
	g, err := newGroup("/sys/fs/cgroup", fmt.Sprintf("stillpoint-quota-test-%d", os.Getpid()))
	if err != nil {
		t.Skip("no control groups here:", err)
	}
	if err := g.limit(period); err != nil {
		t.Error(err)
	}
	code, err := g.run([]string{"sh", "-c", "grep -q " + filepath.Base(g.dir) + " /proc/self/cgroup && exit 7"})
	if code != 7 || err != nil {
		t.Errorf("code %d, %v, want 7", code, err)
	}
	if err := g.remove(); err != nil {
		t.Error(err)
	}
	if exists(g.dir) {
		t.Error("the group is left")
	}
}
