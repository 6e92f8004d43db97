package supervise

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a QEMU that is nobody's child here. Its pidfd names it for good,
// whatever becomes of its number.
type process struct {
	pid  int
	file *os.File
	raw  syscall.RawConn
}

func openProcess(pid int) (*process, error) {
	if pid <= 1 || pid == os.Getpid() {
		return nil, fmt.Errorf("process %d cannot be a QEMU", pid)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &process{pid: pid, file: file, raw: raw}, nil
}

func (p *process) close() { p.file.Close() }

// wait until the process has ended, or close, which is an error.
func (p *process) wait() error {
	return p.raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}

// kill does not wait. A process that has ended is killed already.
func (p *process) kill() error {
	var killed error
	err := p.raw.Control(func(fd uintptr) { killed = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if errors.Is(killed, unix.ESRCH) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	if err := errors.Join(err, killed); err != nil {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	return nil
}
