package images

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// packages fetches and unpacks Debian packages; what was fetched is kept.
type packages struct {
	cache    string
	progress func(format string, args ...any)
}

// fetch returns the path of a package's file, from the cache if it is there.
func (p packages) fetch(ctx context.Context, name string) (string, error) {
	pattern := name + "_*.deb"
	if found, _ := filepath.Glob(filepath.Join(p.cache, pattern)); len(found) > 0 {
		return found[len(found)-1], nil
	}
	p.progress("fetching the package %s", name)
	// An interrupted download must not be taken for the package.
	dir, err := os.MkdirTemp(p.cache, "download-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "apt-get", "download", "-q", name)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w\n%s", name, err, out)
	}
	found, _ := filepath.Glob(filepath.Join(dir, pattern))
	if len(found) != 1 {
		return "", fmt.Errorf("apt-get download %s left %d packages", name, len(found))
	}
	kept := filepath.Join(p.cache, filepath.Base(found[0]))
	return kept, os.Rename(found[0], kept)
}

// extract returns the regular files of a package that are wanted, by their
// path in it ("./boot/vmlinuz-6.1").
func (p packages) extract(ctx context.Context, deb string, wanted func(path string) bool) (map[string][]byte, error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	files, err := readTar(out, wanted)
	_, _ = io.Copy(io.Discard, out) // dpkg-deb must not die of a closed pipe
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", deb, err)
	}
	return files, nil
}

func readTar(r io.Reader, wanted func(path string) bool) (map[string][]byte, error) {
	files := map[string][]byte{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || !wanted(h.Name) {
			continue
		}
		if files[h.Name], err = io.ReadAll(t); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}
