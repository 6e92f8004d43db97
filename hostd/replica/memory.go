package replica

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrLost says that the file of the guest's memory is not what it was, or cannot be
// read or written. The replica is of no use any more.
var ErrLost = errors.New("the replica's RAM file is lost")

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
	if err := fill(file, info); err != nil {
		return nil, fmt.Errorf("take room for RAM file %s of %d bytes: %w", path, size, err)
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

// fill takes the room of a file that lacks some.
func fill(file *os.File, info os.FileInfo) error {
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || uint64(s.Blocks)*512 >= uint64(info.Size()) {
		return nil
	}
	for {
		switch err := unix.Fallocate(int(file.Fd()), 0, 0, info.Size()); err {
		case unix.EINTR:
		case unix.EOPNOTSUPP, unix.ENOSYS: // the file system takes it when it is written to
			return nil
		default:
			return err
		}
	}
}

// use runs f, which reads and writes the memory. What would be a signal that ends the
// process, because somebody has cut the file short or its file system has no room or a
// broken disk, is an error.
func (m *memory) use(f func() error) (err error) {
	if m.bytes == nil {
		return fmt.Errorf("%w: %s is closed", ErrLost, m.path)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if fault, ok := p.(interface{ Addr() uintptr }); ok && m.has(fault.Addr()) {
			err = fmt.Errorf("%w: %s faults at %#x; it was cut short, or its file system has no room or does not work",
				ErrLost, m.path, fault.Addr()-m.begin())
		} else if p != nil { // a fault of the program
			panic(p)
		}
	}()
	return f()
}

func (m *memory) begin() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(m.bytes))) }

func (m *memory) has(address uintptr) bool {
	return address >= m.begin() && address-m.begin() < uintptr(len(m.bytes))
}
