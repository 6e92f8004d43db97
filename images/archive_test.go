package images

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
)

func TestArchiveDoesNotDependOnOrder(t *testing.T) {
	files := []file{
		{"init", []byte("first"), 0o755},
		{"bin/busybox", []byte("second"), 0o755},
		{"bin/sh", []byte("busybox"), cpio.TypeSymlink | 0o777},
		{"modules/a/b.ko", nil, 0o644},
	}
	dir := t.TempDir()
	one, other := filepath.Join(dir, "one"), filepath.Join(dir, "other")
	if err := writeArchive(one, files); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(files)
	if err := writeArchive(other, files); err != nil {
		t.Fatal(err)
	}
	if a, b := content(t, one), content(t, other); !bytes.Equal(a, b) {
		t.Error("the order of the files changes the archive")
	}
	want := []string{"proc", "sys", "dev", "tmp", "bin", "bin/busybox", "bin/sh", "init", "modules", "modules/a", "modules/a/b.ko"}
	if got := names(t, one); !slices.Equal(got, want) {
		t.Errorf("the archive holds %v, want %v", got, want)
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// names of an archive's entries; each must be of nobody and no time.
func names(t *testing.T, path string) (found []string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(content(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	if !z.ModTime.IsZero() || z.Name != "" {
		t.Errorf("the compressed file says %v %q", z.ModTime, z.Name)
	}
	for r := cpio.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Guid != 0 || !h.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s: user %d, group %d, time %v", h.Name, h.Uid, h.Guid, h.ModTime)
		}
		found = append(found, h.Name)
	}
}

func TestWriteLeavesAnEqualFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := write(path, []byte("image")); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1000, 0)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if err := write(path, []byte("image")); err != nil {
		t.Fatal(err)
	}
	if s, err := os.Stat(path); err != nil || !s.ModTime().Equal(old) {
		t.Errorf("an equal file was written again: %v, %v", s, err)
	}
	if err := write(path, []byte("other")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); string(got) != "other" {
		t.Errorf("the file holds %q", got)
	}
}
