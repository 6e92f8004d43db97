package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// makeRAM makes the file of the guest's memory and takes all of its room now. A page
// of a file without room is a signal that ends whoever touches it, QEMU or daemon.
// Nobody else can open the file, and none that was there is used.
func (m *Machine) makeRAM(ctx context.Context) error {
	path := m.RAMFile()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the RAM file of an earlier QEMU: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, privateFile)
	if err != nil {
		return fmt.Errorf("make the RAM file: %w", err)
	}
	m.ram = f
	if err := takeRoom(ctx, f, m.o.RAMDir, uint64(m.o.Spec.Memory)); err != nil {
		return fmt.Errorf("take room for the machine's memory: %w", err)
	}
	return m.user.give(path)
}

// checkRAM makes sure that QEMU uses the file which was made for it, and that others
// still cannot open it.
func (m *Machine) checkRAM(ctx context.Context) error {
	defer m.closeRAM()
	made, err := m.ram.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(m.RAMFile())
	if err != nil || !os.SameFile(made, there) || uint64(made.Size()) != uint64(m.o.Spec.Memory) {
		return fmt.Errorf("the RAM file %s is not the one any more that was made for QEMU (%d bytes): something else writes to ram-dir", m.RAMFile(), m.o.Spec.Memory)
	}
	if made.Mode().Perm() != privateFile {
		if err := m.ram.Chmod(privateFile); err != nil {
			return fmt.Errorf("close the RAM file to others: %w", err)
		}
	}
	if s, ok := made.Sys().(*syscall.Stat_t); ok && uint64(s.Blocks)*512 < uint64(made.Size()) { // QEMU has made it anew
		return takeRoom(ctx, m.ram, m.o.RAMDir, uint64(made.Size()))
	}
	return nil
}

func (m *Machine) closeRAM() {
	if m.ram != nil {
		m.ram.Close()
		m.ram = nil
	}
}

// takeRoom gives a new, empty file its size and all of its blocks. Several at once
// take turns, so that they do not take from each other what is enough for one.
func takeRoom(ctx context.Context, f *os.File, dir string, size uint64) error {
	unlock, err := turn(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := roomOf(dir)
	if err != nil {
		return err
	}
	if err := r.fits(size); err != nil {
		return err
	}
	if err := allocate(ctx, f, size); err != nil {
		return r.explain(err, size)
	}
	return nil
}

// turn waits until nobody else takes room in the directory.
func turn(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	const again = 5 * time.Millisecond
	for {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { d.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			d.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			d.Close()
			return nil, fmt.Errorf("wait for others that take room in %s: %w", dir, ctx.Err())
		}
	}
}

// allocate takes the room in steps, so that it can be given up.
func allocate(ctx context.Context, f *os.File, size uint64) error {
	const step = 256 << 20
	for at := uint64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(step, size-at)
		switch err := unix.Fallocate(int(f.Fd()), 0, int64(at), int64(n)); err {
		case nil:
			at += n
		case unix.EINTR:
		case unix.EOPNOTSUPP, unix.ENOSYS:
			return write(ctx, f, size)
		default:
			return err
		}
	}
	return nil
}

// write takes the room where the file system knows no other way.
func write(ctx context.Context, f *os.File, size uint64) error {
	zeros := make([]byte, 1<<20)
	for at := uint64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.WriteAt(zeros[:min(uint64(len(zeros)), size-at)], int64(at))
		if err != nil {
			return err
		}
		at += uint64(n)
	}
	return nil
}

// room is what a directory's file system has, in bytes.
type room struct {
	dir, kind   string
	free, whole uint64
	huge        uint64 // size of its pages if they are all huge
	memory      uint64 // of the host that is to be had; as much as one likes if it is no tmpfs
}

func roomOf(dir string) (room, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return room{}, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	r := room{dir: dir, kind: kindOf(int64(s.Type)), free: s.Bavail * uint64(s.Bsize), whole: s.Blocks * uint64(s.Bsize), memory: math.MaxUint64}
	if s.Blocks == 0 { // a tmpfs, or huge pages, without a limit of its own
		r.free, r.whole = math.MaxUint64, math.MaxUint64
	}
	if s.Type == unix.HUGETLBFS_MAGIC {
		r.huge = uint64(s.Bsize)
		free, whole := hugePages("/sys/kernel/mm/hugepages", r.huge)
		r.free, r.whole = min(r.free, free), min(r.whole, whole)
	}
	if s.Type == unix.TMPFS_MAGIC || s.Type == unix.RAMFS_MAGIC {
		r.memory = availableMemory()
	}
	return r, nil
}

func kindOf(magic int64) string {
	switch magic {
	case unix.TMPFS_MAGIC:
		return "a tmpfs"
	case unix.HUGETLBFS_MAGIC:
		return "a hugetlbfs"
	case unix.RAMFS_MAGIC:
		return "a ramfs"
	}
	return fmt.Sprintf("a file system of type %#x", magic)
}

// fits fails where asking would do harm: a limit of the process is a signal that ends
// it, and a tmpfs takes memory that the host does not have from its processes.
func (r room) fits(size uint64) error {
	var most unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &most); err == nil && size > most.Cur {
		return fmt.Errorf("%s are needed in one file in %s, and the daemon's files may have %s: raise its limit (LimitFSIZE=, ulimit -f)", amount(size), r.dir, amount(most.Cur))
	}
	if r.huge > 0 && size%r.huge != 0 {
		return fmt.Errorf("%s are no whole number of the pages of %s, %s, which have %s: change the machine's memory", amount(size), r.dir, r.kind, amount(r.huge))
	}
	if size > r.free {
		return r.explain(unix.ENOSPC, size)
	}
	if size > r.memory {
		return fmt.Errorf("%s are needed in %s, %s, and the host has %s of memory left: end a machine, or give the host more memory", amount(size), r.dir, r.kind, amount(r.memory))
	}
	return nil
}

// explain an error of the file system with numbers, and what to do.
func (r room) explain(err error, size uint64) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: %s are needed in %s, %s, which has %s free of %s: end a machine, make the file system larger%s, or set ram-dir to a larger one",
			unix.ENOSPC, amount(size), r.dir, r.kind, amount(r.free), amount(r.whole), r.enlarge())
	case errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %s are needed in %s, %s: raise the quota of user %d there", unix.EDQUOT, amount(size), r.dir, r.kind, os.Geteuid())
	case errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w: %s, %s, takes no file of %s: set ram-dir to a tmpfs", unix.EFBIG, r.dir, r.kind, amount(size))
	}
	return fmt.Errorf("take %s in %s, %s: %w", amount(size), r.dir, r.kind, err)
}

func (r room) enlarge() string {
	switch {
	case strings.Contains(r.kind, "tmpfs"):
		return " (mount -o remount,size=...)"
	case r.huge > 0:
		return " (sysctl vm.nr_hugepages, mount -o remount,size=...)"
	}
	return ""
}

// amount of bytes for people.
func amount(bytes uint64) string {
	switch {
	case bytes == math.MaxUint64:
		return "unlimited bytes"
	case bytes < 10<<20:
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
