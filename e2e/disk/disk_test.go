package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close())
}

// TestFaults: a file system fails as it says, and gets well.
func TestFaults(t *testing.T) {
	if !Own(t) {
		return
	}
	for _, f := range Faults(t) {
		dir := filepath.Join(t.TempDir(), "d")
		d := f.Mount(t, dir, 8<<20)
		for range 3 {
			if err := write(filepath.Join(dir, "before")); err != nil {
				t.Fatal(err)
			}
			d.Fail(t)
			if err := write(filepath.Join(dir, "meanwhile")); err == nil || !strings.Contains(err.Error(), f.Says) {
				t.Errorf("%s: writing: %v", f.Name, err)
			}
			d.Mend(t)
			if err := write(filepath.Join(dir, "after")); err != nil {
				t.Errorf("%s: writing to what is well again: %v", f.Name, err)
			}
		}
	}
}
