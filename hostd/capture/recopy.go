package capture

import (
	"fmt"
	"os"
)

// recopy makes the first epoch right where QEMU cannot be trusted to: under TCG
// the synchronisation of the dirty bitmap (physical_memory_sync_dirty_bitmap,
// include/exec/ram_addr.h) forgets to tell the virtual processors when every page
// that it finds is one that waits to be sent already. At the end of the first
// copy that is common. A page of its last part is then written to, after the
// guest runs again, without being noted as dirty, until the next synchronisation
// that finds some other page. So these pages are read once more, from the file
// that the guest's memory lies in, while the guest is stopped for its first
// checkpoints.
type recopy struct {
	file, block string // where the memory lies, and its block's name; empty for never
	index       int    // of the block
	offsets     []uint64
}

// doubt notes a page of the first copy's last part.
func (r *recopy) doubt(block string, index int, offset uint64) {
	if r.file != "" && block == r.block {
		r.index, r.offsets = index, append(r.offsets, offset)
	}
}

// into adds the pages to an epoch whose own have been read. The synchronisation
// of an epoch that has pages of that block has told the processors.
func (r *recopy) into(e *Epoch) error {
	if len(r.offsets) == 0 {
		return nil
	}
	told := e.has(r.index)
	if err := r.read(e); err != nil {
		return fmt.Errorf("read %d pages of the first copy again: %w", len(r.offsets), err)
	}
	if told {
		r.offsets = nil
	}
	return nil
}

func (r *recopy) read(e *Epoch) error {
	f, err := os.Open(r.file)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, offset := range r.offsets {
		page, err := e.Page(r.index, offset)
		if err != nil {
			return err
		}
		if _, err := f.ReadAt(page, int64(offset)); err != nil {
			return err
		}
	}
	return nil
}
