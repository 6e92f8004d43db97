package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountState puts the state directory on a file system of its own, if the
// lab's hosts have such.
func (h *Host) mountState() error {
	size := h.lab.options.StateSize
	if size == 0 {
		return nil
	}
	if err := h.lab.record.mount(h.StateDir, size); err != nil {
		return fmt.Errorf("make the state directory of host %s: %w", h.Name, err)
	}
	return nil
}

// FillState writes until not a byte more goes onto the host's disk. It needs
// Options.StateSize, and may be called again when something was removed.
func (h *Host) FillState() error {
	if h.lab.options.StateSize == 0 {
		return fmt.Errorf("fill the disk of host %s: it is this machine's own; make the lab with Options.StateSize", h.Name)
	}
	f, err := os.OpenFile(h.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk of host %s: %w", h.Name, err)
	}
	if err = errors.Join(fill(f, h.lab.options.StateSize), f.Close()); err != nil {
		return fmt.Errorf("fill the disk of host %s: %w", h.Name, err)
	}
	return nil
}

// fill writes until there is no space. It fails where that takes more than the
// size of the file system: then it fills another.
func fill(f *os.File, size int64) error {
	block := make([]byte, min(size, 1<<20))
	for written := int64(0); written <= size; {
		n, err := f.Write(block) // what fits of the last block is written, too
		if errors.Is(err, unix.ENOSPC) {
			return nil
		}
		if err != nil {
			return err
		}
		written += int64(n)
	}
	return fmt.Errorf("%s is not on a file system of %d bytes; is something mounted over it, or not mounted?", f.Name(), size)
}

// FreeState undoes FillState.
func (h *Host) FreeState() error {
	if err := os.Remove(h.filler()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free the disk of host %s: %w", h.Name, err)
	}
	return nil
}

func (h *Host) filler() string { return filepath.Join(h.StateDir, ".filler") }
