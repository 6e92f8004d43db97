package images

import (
	"bytes"
	"os"
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

func TestSameInputsSameBytes(t *testing.T) {
	started := time.Now()
	first := buildImages(t)
	took := time.Since(started)
	t.Logf("built in %v", took)
	if took > time.Minute {
		t.Errorf("the build took %v, more than a minute", took)
	}
	second := buildImages(t)
	for _, name := range []string{"vmlinuz", "plain.cpio.gz", "nat.cpio.gz"} {
		a, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("two builds of %s differ", name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(first, "*")); len(left) != 3 {
		t.Errorf("the build left %v", left)
	}
}
