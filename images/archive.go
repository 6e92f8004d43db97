package images

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// file of an initial RAM disk; its name has no leading slash. The mode of a
// symbolic link has cpio.TypeSymlink, and its content is its target.
type file struct {
	name    string
	content []byte
	mode    cpio.FileMode
}

// writeArchive writes a gzip-compressed cpio archive (newc, as the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst describes). Order,
// times, owners and inode numbers are fixed, so that the same files give the
// same bytes.
func writeArchive(target string, files []file) error {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := archive(cpio.NewWriter(z), files); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	if err := z.Close(); err != nil {
		return err
	}
	return write(target, b.Bytes())
}

func archive(w *cpio.Writer, files []file) error {
	made := map[string]bool{".": true}
	for _, dir := range []string{"proc", "sys", "dev", "tmp"} {
		if err := directory(w, made, dir); err != nil {
			return err
		}
	}
	for _, f := range sorted(files) {
		if err := directory(w, made, path.Dir(f.name)); err != nil {
			return err
		}
		if err := entry(w, f); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return w.Close()
}

func entry(w *cpio.Writer, f file) error {
	if err := w.WriteHeader(&cpio.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Links: 1}); err != nil {
		return err
	}
	_, err := w.Write(f.content)
	return err
}

func directory(w *cpio.Writer, made map[string]bool, name string) error {
	if made[name] {
		return nil
	}
	if err := directory(w, made, path.Dir(name)); err != nil {
		return err
	}
	made[name] = true
	return w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeDir | 0o755, Links: 2})
}

func sorted(files []file) []file {
	return slices.SortedFunc(slices.Values(files), func(a, b file) int { return strings.Compare(a.name, b.name) })
}
