package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNotRunning says that there is no QEMU of a machine.
var ErrNotRunning = errors.New("no QEMU of the machine runs")

// Find looks for the QEMU that an earlier daemon started with the same options
// and left. taps are those that were made for it. It fails with ErrNotRunning
// where there is none; Remove then still removes what is left of it. The
// machine that it returns can be killed and removed; Connect it to use it.
func Find(o Options, taps []string) (*Machine, error) {
	m := newMachine(o)
	m.taps, m.own = taps, true
	peer, ok := listener(m.monitorSocket())
	if !ok {
		return m, ErrNotRunning
	}
	pid := peer.Pid
	if pid <= 0 {
		return m, fmt.Errorf("find the QEMU of machine %s: somebody listens on its monitor and takes no connection", o.Spec.Name)
	}
	p, err := open(int(pid), 0)
	if err != nil {
		return m, fmt.Errorf("find the QEMU of machine %s (process %d): %w", o.Spec.Name, pid, err)
	}
	if again, ok := listener(m.monitorSocket()); again.Pid != pid {
		p.file.Close()
		if ok {
			return m, fmt.Errorf("find the QEMU of machine %s: its monitor was process %d's, and now is another's", o.Spec.Name, pid)
		}
		return m, ErrNotRunning
	}
	m.runsAs(peer)
	if err := m.sameArguments(int(pid)); err != nil {
		p.file.Close()
		return m, err
	}
	m.process = p
	go func() { // waited for by Kill
		m.ended(p.wait())
		p.file.Close()
	}()
	return m, nil
}

// sameArguments fails if Options.Same is set and the process was started with others.
// A machine that has been taken over waited for that with one more.
func (m *Machine) sameArguments(pid int) error {
	if !m.o.Same {
		return nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return fmt.Errorf("read how the QEMU of machine %s was started: %w", m.o.Spec.Name, err)
	}
	given, want := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), m.arguments()
	from := slices.Index(given, want[0])
	for i, argument := range want {
		if from < 0 || from+i >= len(given) || given[from+i] != argument {
			return fmt.Errorf("the QEMU of machine %s (process %d) was started with another specification or configuration: %q is not among its arguments in this place", m.o.Spec.Name, pid, argument)
		}
	}
	return nil
}

// Listens reports that somebody listens on a unix socket, or that it cannot be known.
func Listens(socket string) bool {
	_, ok := listener(socket)
	return ok
}

// Release ends the daemon's part in a QEMU that was found, and lets it run on. It
// may be called again.
func (m *Machine) Release() {
	if m.monitor != nil {
		m.monitor.Close()
		m.monitor = nil
	}
	for _, t := range m.threads {
		t.file.Close()
	}
	if p, ok := m.process.(*found); ok {
		p.file.Close()
	}
}

// Connect to the monitor of a QEMU that was found.
func (m *Machine) Connect(ctx context.Context) error {
	monitor, err := m.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to the QEMU of machine %s (process %d): %w", m.o.Spec.Name, m.Pid(), err)
	}
	m.monitor = monitor
	m.watchThreads()
	return nil
}

// found is a process that is nobody's child here, or a thread of one.
type found struct {
	pid  int
	file *os.File // a pidfd
	raw  syscall.RawConn
}

func open(pid, flags int) (*found, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK|flags)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &found{pid, file, raw}, nil
}

func (p *found) Pid() int { return p.pid }

func (p *found) Kill() error {
	var killed error
	err := p.raw.Control(func(fd uintptr) { killed = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if errors.Is(killed, unix.ESRCH) || err != nil { // its descriptor is closed once it has ended
		return os.ErrProcessDone
	}
	return killed
}

// wait until it has ended: its descriptor becomes readable then.
func (p *found) wait() error {
	return p.raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}
