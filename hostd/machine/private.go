package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	privateDirectory = 0o700
	privateFile      = 0o600
)

// PrivateDirectory makes a directory that only this process's user can use, or
// makes sure that the one which is there is so. It fails where a directory has another
// owner, where others could write to it, so that what is in it may be theirs, or where
// they could put another in its place. What is in it is left as it is.
func PrivateDirectory(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), privateDirectory); err != nil {
		return fmt.Errorf("make directory %s: %w", path, err)
	}
	if err := notReplaceable(path); err != nil {
		return err
	}
	if err := os.Mkdir(path, privateDirectory); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make directory %s: %w", path, err)
	}
	if err := ownLink(path); err != nil {
		return err
	}
	// What is looked at is what was opened, whatever the name becomes meanwhile.
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", path, err)
	}
	defer dir.Close()
	return closed(dir)
}

// closed shuts a directory of ours to others, and refuses one that is not ours alone.
func closed(dir *os.File) error {
	info, err := dir.Stat()
	if err != nil {
		return fmt.Errorf("look at directory %s: %w", dir.Name(), err)
	}
	mode, owner := info.Mode(), ownerOf(info)
	switch {
	case owner != os.Geteuid():
		return fmt.Errorf("directory %s belongs to user %d, and this process runs as user %d: see what is in it and remove it, or make it yours alone (chown %d, chmod 0700), or configure another",
			dir.Name(), owner, os.Geteuid(), os.Geteuid())
	case mode.Perm()&0o022 != 0:
		return fmt.Errorf("others than its owner may write to directory %s (mode %#o), so what is in it may be theirs: see what is in it and chmod it 0700, or configure a directory of its own",
			dir.Name(), mode.Perm())
	case mode.Perm()&0o077 != 0:
		if err := dir.Chmod(privateDirectory); err != nil {
			return fmt.Errorf("close directory %s to others than its owner: %w", dir.Name(), err)
		}
	}
	return nil
}

// ownLink follows a symbolic link only if this user or root has made it.
func ownLink(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at directory %s: %w", path, err)
	}
	if owner := ownerOf(info); info.Mode()&fs.ModeSymlink != 0 && owner != os.Geteuid() && owner != 0 {
		return fmt.Errorf("%s is a symbolic link of user %d: remove it, or configure another directory", path, owner)
	}
	return nil
}

// notReplaceable fails if somebody else could rename a directory on the way to
// path. In a sticky one, as /tmp and /dev/shm are, only owners can.
func notReplaceable(path string) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("look at the directories above %s: %w", path, err)
		}
		if info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
			return fmt.Errorf("everybody may rename what is in %s, so %s is nobody's own: chmod o-w %s (or +t), or configure another directory", dir, path, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func ownerOf(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}
