package lab

import (
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOwnMount: a directory of namespaces is mounted on itself once, whoever comes first,
// so that nobody mounts it over what is in it.
func TestOwnMount(t *testing.T) {
	if err := Available(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	mounts := func() int {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(b), " "+dir+" ")
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := ownMount(dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	t.Cleanup(func() {
		for mounts() > 0 {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n := mounts(); n != 1 {
		t.Errorf("%d mounts", n)
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil { // what ip(8) asks first
		t.Error(err)
	}
}
