package images

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"
)

const buildDir = "../build"

// buildImages builds into a new directory, from packages that were fetched
// before: a test does not wait for the network.
func buildImages(t *testing.T) (dir string) {
	t.Helper()
	cache := filepath.Join(buildDir, "cache", "packages")
	for _, pattern := range []string{"linux-image-*-cloud-amd64_*.deb", "busybox-static_*.deb"} {
		if found, _ := filepath.Glob(filepath.Join(cache, pattern)); len(found) == 0 {
			t.Skipf("no %s in %s: run make images", pattern, cache)
		}
	}
	dir = t.TempDir()
	if err := Build(t.Context(), Options{Module: "..", Cache: cache, Output: dir, Progress: t.Logf}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestImages builds twice, because once under the race detector takes long
// enough, and boots what it built.
func TestImages(t *testing.T) {
	started := time.Now()
	dir := buildImages(t)
	took := time.Since(started)
	t.Logf("built in %v", took)
	t.Run("the same inputs give the same bytes", func(t *testing.T) {
		second := buildImages(t)
		for _, name := range []string{"vmlinuz", "plain.cpio.gz", "nat.cpio.gz"} {
			if !bytes.Equal(content(t, filepath.Join(dir, name)), content(t, filepath.Join(second, name))) {
				t.Errorf("two builds of %s differ", name)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 3 {
			t.Errorf("the build left %v", left)
		}
	})
	t.Run("nat is run, and again when it ends", func(t *testing.T) { testRestart(t, dir) })
	t.Run("a guest that cannot go on powers off", func(t *testing.T) { testPowerOff(t, dir) })
	t.Run("plain answers", func(t *testing.T) { testPlain(t, dir) })
}
