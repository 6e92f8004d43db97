package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A QEMU of another user can neither open nor make what is in the daemon's directories.
// What it needs of them is opened for it, and given to it by descriptors: its sockets
// and its taps as they are, so that it takes no name of theirs; its RAM file, and a
// directory of its own, by their names under /proc/self/fd, where no directory above
// is looked at.

// firstPassed is the first descriptor that is passed.
const firstPassed = 3

// passed is one of them.
type passed struct {
	name string // unique in a machine
	open func() (*os.File, error)
}

// Names of what is passed. Sockets have their paths, taps a prefix.
const (
	passedConsole   = "console"
	passedRAM       = "RAM file"
	passedDirectory = "directory"
	passedTap       = "tap "
)

// passes lists what a QEMU is given, the first as firstPassed. It follows from the
// specification alone, so that QEMU's arguments do, too. The console is opened with
// its keeper.
func (m *Machine) passes() (all []passed) {
	if m.o.Spec.Console != "" {
		all = append(all, passed{name: passedConsole})
	}
	if m.user == nil {
		return all
	}
	all = append(all, passed{passedRAM, func() (*os.File, error) { return again(m.ram) }},
		passed{passedDirectory, func() (*os.File, error) { return os.Open(m.directory()) }})
	sockets := []string{m.monitorSocket(), m.UrgentSocket()}
	if m.o.Spec.Agent.Enabled {
		sockets = append(sockets, m.AgentSocket())
	}
	for _, path := range sockets {
		all = append(all, passed{path, func() (*os.File, error) { return bound(path) }})
	}
	for _, p := range m.o.Spec.Ports {
		all = append(all, passed{passedTap + p.Tap, func() (*os.File, error) { return attachTap(p.Tap) }})
	}
	return all
}

func (m *Machine) descriptor(name string) int {
	return firstPassed + slices.IndexFunc(m.passes(), func(p passed) bool { return p.name == name })
}

// pass opens all but the console. What it returns with an error is open, too.
func (m *Machine) pass() (files []*os.File, err error) {
	for _, p := range m.passes() {
		if p.open == nil {
			continue
		}
		f, err := p.open()
		if err != nil {
			return files, fmt.Errorf("pass %s to QEMU: %w", p.name, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// again is a descriptor of its own for an open file.
func again(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// bound is a socket with a name, on which nobody listens yet. That QEMU does, so that
// whoever connects is told of QEMU's process.
func bound(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// directory is QEMU's own, for the sockets that it connects to and makes while it runs.
func (m *Machine) directory() string { return m.socket("qemu") }

func (m *Machine) makeDirectory() error {
	err := os.RemoveAll(m.directory())
	if err == nil && m.user != nil {
		err = errors.Join(os.Mkdir(m.directory(), privateDirectory), m.user.give(m.directory()))
	}
	if err != nil {
		return fmt.Errorf("make QEMU's directory: %w", err)
	}
	return nil
}

// shared is a socket that QEMU connects to or makes while it runs.
func (m *Machine) shared(kind string) string {
	if m.user == nil {
		return m.socket(kind)
	}
	return filepath.Join(m.directory(), kind)
}

// uri is how QEMU names it.
func (m *Machine) uri(kind string) string {
	if m.user == nil {
		return "unix:" + m.socket(kind)
	}
	return fmt.Sprintf("unix:/proc/self/fd/%d/%s", m.descriptor(passedDirectory), kind)
}

// COLOURI is QEMU's name of COLOSocket.
func (m *Machine) COLOURI() string { return m.uri("colo") }

// IncomingURI is QEMU's name of IncomingSocket.
func (m *Machine) IncomingURI() string { return m.uri("incoming") }

// GiveCOLO lets QEMU connect to COLOSocket, which is there by now.
func (m *Machine) GiveCOLO() error { return m.user.give(m.COLOSocket()) }

func (m *Machine) ramPath() string {
	if m.user == nil {
		return m.RAMFile()
	}
	return fmt.Sprintf("/proc/self/fd/%d", m.descriptor(passedRAM))
}

// listensOn is a listening socket in the options of QEMU's character devices.
func (m *Machine) listensOn(path string) string {
	if m.user == nil {
		return "path=" + escape(path)
	}
	return fmt.Sprintf("fd=%d", m.descriptor(path))
}

func (m *Machine) monitors() []string {
	if m.user == nil {
		return []string{
			"-qmp", "unix:" + escape(m.monitorSocket()) + ",server=on,wait=off",
			"-qmp", "unix:" + escape(m.UrgentSocket()) + ",server=on,wait=off",
		}
	}
	return []string{
		"-chardev", "socket,id=qmp,server=on,wait=off," + m.listensOn(m.monitorSocket()), "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=oob,server=on,wait=off," + m.listensOn(m.UrgentSocket()), "-mon", "chardev=oob,mode=control",
	}
}

func (m *Machine) tap(name string) string {
	if m.user == nil {
		return "ifname=" + name + ",script=no,downscript=no"
	}
	return fmt.Sprintf("fd=%d", m.descriptor(passedTap+name))
}

// mayOpen fails if QEMU's user cannot use the files that the specification names. It
// is asked before anything is made.
func (m *Machine) mayOpen() error {
	if m.user == nil {
		return nil // QEMU tells
	}
	s := m.o.Spec
	var errs []error
	for _, path := range []string{s.Kernel, s.Initrd} {
		if path != "" {
			errs = append(errs, m.user.CanOpen(path, false))
		}
	}
	if d := s.Disk; d != nil {
		errs = append(errs, m.user.CanOpen(d.Image, !d.ReadOnly))
	}
	return errors.Join(errs...)
}

// runsAs notes whose a QEMU is that was found: an earlier daemon may have had another
// configuration.
func (m *Machine) runsAs(peer unix.Ucred) {
	if _, err := os.Lstat(m.directory()); errors.Is(err, fs.ErrNotExist) {
		m.user = nil
		return
	}
	if m.user == nil || m.user.UID != peer.Uid {
		m.user = &User{UID: peer.Uid, GID: peer.Gid}
	}
}
