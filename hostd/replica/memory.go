package replica

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memory is the guest's RAM as a shared mapping of the file that the waiting
// QEMU has mapped too.
type memory struct {
	bytes []byte
	path  string
}

func mapMemory(path string, size uint64) (*memory, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open RAM file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if uint64(info.Size()) != size {
		return nil, fmt.Errorf("RAM file %s has %d bytes, the machine %d", path, info.Size(), size)
	}
	b, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map RAM file %s: %w", path, err)
	}
	return &memory{bytes: b, path: path}, nil
}

func (m *memory) close() error {
	if m.bytes == nil {
		return nil
	}
	err := unix.Munmap(m.bytes)
	m.bytes = nil
	return err
}
