// Package disk gives tests file systems that fail: full ones, read-only ones and ones
// whose device answers every access with an error, and lets them get well again. They
// are in a mount namespace of the test's own, so only root has them.
package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownMounts is set in the process that has mounts of its own.
const ownMounts = "STILLPOINT_TEST_OWN_MOUNTS"

// Own runs the test again in a process whose mounts nobody else sees, and reports
// whether this is that process. The other one has nothing more to do.
func Own(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownMounts) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	again := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), ownMounts+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := again.CombinedOutput()
	switch text := string(out); {
	case errors.Is(err, syscall.EPERM):
		t.Skip("no mount namespace to be had: ", err)
	case err != nil || strings.Contains(text, "--- FAIL"):
		t.Fatalf("%v\n%s", err, out)
	case strings.Contains(text, "--- SKIP"):
		t.Logf("%s", out)
		if !strings.Contains(text, "--- PASS: "+t.Name()) {
			t.Skip("skipped in mounts of its own, as above")
		}
	case !strings.Contains(text, "--- PASS: "+t.Name()):
		t.Fatalf("it did not run:\n%s", out)
	}
	return false
}

// Tmpfs is mounted on a directory, which is made, until the test has ended.
func Tmpfs(t *testing.T, dir, options string) {
	t.Helper()
	mount(t, "tmpfs", dir, "tmpfs", options)
}

func mount(t *testing.T, source, dir, kind, options string) {
	t.Helper()
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = unix.Mount(source, dir, kind, 0, options)
	}
	if err != nil {
		t.Fatalf("mount %s on %s: %v", kind, dir, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// Fault is one way in which a file system fails.
type Fault struct {
	Name string
	// Says is what the kernel says then.
	Says string
	// Mount a file system of some size in bytes. Fail makes it fail, and Mend ends that.
	Mount func(t *testing.T, dir string, size int64) Disk
}

// Disk is a file system that fails on demand.
type Disk interface {
	Fail(*testing.T)
	Mend(*testing.T)
}

// Faults that this host can have; the others are logged.
func Faults(t *testing.T) []Fault {
	t.Helper()
	all := []Fault{
		{"full", "no space left on device", func(t *testing.T, dir string, size int64) Disk {
			Tmpfs(t, dir, fmt.Sprintf("size=%d,mode=0700", size))
			return &full{dir}
		}},
		{"read-only", "read-only file system", func(t *testing.T, dir string, size int64) Disk {
			Tmpfs(t, dir, fmt.Sprintf("size=%d,mode=0700", size))
			return &readOnly{dir}
		}},
	}
	if why := noLoops(); why != nil {
		t.Logf("without a device that fails: %v", why)
		return all
	}
	return append(all, Fault{"failing", "input/output error", func(t *testing.T, dir string, size int64) Disk {
		d := newLoop(t, 2*size)
		mount(t, d.device.Name(), dir, "ext4", "")
		if err := errors.Join(os.Chmod(dir, 0o700), d.occupy(dir)); err != nil {
			t.Fatal(err)
		}
		return d
	}})
}

// full is a file system without a free byte.
type full struct{ dir string }

func (f *full) filler() string { return filepath.Join(f.dir, ".filler") }

func (f *full) Fail(t *testing.T) {
	t.Helper()
	file, err := os.OpenFile(f.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for size := 1 << 20; size > 0; size /= 2 { // to the last byte
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}

func (f *full) Mend(t *testing.T) {
	t.Helper()
	if err := os.Remove(f.filler()); err != nil {
		t.Fatal(err)
	}
}

// readOnly has another mount above the first: files that are open for writing stay so,
// and would keep the first one from becoming read-only.
type readOnly struct{ dir string }

func (r *readOnly) Fail(t *testing.T) {
	t.Helper()
	err := unix.Mount(r.dir, r.dir, "", unix.MS_BIND, "")
	if err == nil {
		err = unix.Mount("", r.dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *readOnly) Mend(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(r.dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}

// loop is a device on a file. It fails by becoming half as large: what lies behind its
// end is an input/output error.
type loop struct {
	device *os.File
	size   int64
}

// occupy what is left when the device fails. All that a test writes, and what the file
// system needs for it, lies behind; its own tables lie before.
func (l *loop) occupy(dir string) error {
	f, err := os.Create(filepath.Join(dir, ".filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return err
	}
	block := fs.Bsize
	end := int64(0)
	for step := l.size; step >= block; {
		if unix.Fallocate(int(f.Fd()), 0, end, step) == nil {
			end += step
		} else {
			step /= 2
		}
	}
	extents, err := extentsOf(f)
	if err != nil {
		return fmt.Errorf("ask where the file is: %w", err)
	}
	for _, e := range extents {
		before := max(min(l.size/2-int64(e.physical), int64(e.length)), 0)
		if rest := int64(e.length) - before; rest > 0 {
			err = errors.Join(err, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(e.logical)+before, rest))
		}
	}
	return errors.Join(err, f.Sync())
}

// extent is Linux's struct fiemap_extent.
type extent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

// extentsOf a file, by FIEMAP, which golang.org/x/sys/unix does not have.
func extentsOf(f *os.File) ([]extent, error) {
	const fiemap = 0xc020660b
	var asked struct {
		start, length        uint64
		flags, mapped, count uint32
		_                    uint32
		extents              [256]extent
	}
	asked.length, asked.count = ^uint64(0), uint32(len(asked.extents))
	if _, _, no := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&asked))); no != 0 {
		return nil, no
	}
	return asked.extents[:asked.mapped], nil
}

func noLoops() error {
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return err
	}
	_, err := exec.LookPath("mkfs.ext4")
	return err
}

func newLoop(t *testing.T, size int64) *loop {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	// Without a journal, which would end all writing with its first error for good.
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-e", "continue", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := &loop{size: size}
	for l.device == nil { // somebody else may be quicker
		l.device, err = attach(f)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			t.Fatalf("make a loop device: %v", err)
		}
	}
	t.Cleanup(func() { l.device.Close() }) // it ends with its last user
	return l
}

func attach(f *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, err
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	c := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &c); err != nil {
		device.Close()
		return nil, err
	}
	return device, nil
}

func (l *loop) Fail(t *testing.T) { t.Helper(); l.limit(t, uint64(l.size/2)) }
func (l *loop) Mend(t *testing.T) { t.Helper(); l.limit(t, uint64(l.size)) }

func (l *loop) limit(t *testing.T, size uint64) {
	t.Helper()
	info := unix.LoopInfo64{Sizelimit: size, Flags: unix.LO_FLAGS_AUTOCLEAR}
	var err error
	for err = unix.EAGAIN; errors.Is(err, unix.EAGAIN); { // as long as pages are on their way
		err = unix.IoctlLoopSetStatus64(int(l.device.Fd()), &info)
	}
	if err != nil {
		t.Fatalf("set the size of %s: %v", l.device.Name(), err)
	}
}
