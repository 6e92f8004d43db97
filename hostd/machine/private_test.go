package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const nobody = 65534

func TestPrivateDirectoryMakesOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for range 2 { // the second time it is there
		if err := PrivateDirectory(dir); err != nil {
			t.Fatal(err)
		}
		wantMode(t, dir, 0o700)
	}
}

// TestPrivateDirectoryShuts one that others may read: they have put nothing there.
func TestPrivateDirectoryShuts(t *testing.T) {
	dir := made(t, 0o755)
	if err := PrivateDirectory(dir); err != nil {
		t.Fatal(err)
	}
	wantMode(t, dir, 0o700)
}

func TestPrivateDirectoryRefuses(t *testing.T) {
	for _, mode := range []os.FileMode{0o777, 0o770, 0o702, os.ModeSticky | 0o777} {
		dir := made(t, mode)
		refused(t, dir, "chmod", dir)
		wantMode(t, dir, mode.Perm())
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, file, file)
	above := made(t, 0o777)
	refused(t, filepath.Join(above, "ram"), "chmod o-w "+above)
}

func TestPrivateDirectoryRefusesAStrangers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of others")
	}
	dir := made(t, 0o700)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "user 65534", "chown")
	good, link := made(t, 0o700), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	if err := PrivateDirectory(link); err != nil {
		t.Errorf("a link of this user's own: %v", err)
	}
	if err := os.Lchown(link, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	refused(t, link, "symbolic link of user 65534")
}

func made(t *testing.T, mode os.FileMode) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

func refused(t *testing.T, dir string, says ...string) {
	t.Helper()
	wantError(t, PrivateDirectory(dir), says...)
}

func wantError(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}

func wantMode(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != mode {
		t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), mode)
	}
}
