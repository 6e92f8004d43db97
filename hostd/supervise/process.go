package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
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

// openSince opens a process that began at that time, if it is not 0.
func openSince(pid int, started uint64) (*process, error) {
	p, err := openProcess(pid)
	if err != nil || started == 0 {
		return p, err
	}
	// The descriptor names one process for good. If it is the one that is meant, it
	// has its number for as long as it lives.
	now, err := StartTime(pid)
	if err == nil && now != started {
		err = fmt.Errorf("process %d is another one by now: it began at %d, and the one that is meant at %d", pid, now, started)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// StartTime of a process in clock ticks since the system's start. Of a process that
// has ended, it may be that of another one with its number: make sure afterwards
// that it lives.
func StartTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("ask when process %d began: %w", pid, err)
	}
	const field = 22 // proc(5); the second one, the name, may hold spaces
	at := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[at+1:])
	if at < 0 || len(fields) < field-2 {
		return 0, fmt.Errorf("ask when process %d began: its stat has %d fields", pid, len(fields)+2)
	}
	return strconv.ParseUint(string(fields[field-3]), 10, 64)
}

// Lives reports whether a process that began at a time, as StartTime tells it, has not
// ended.
func Lives(pid int, began uint64) bool {
	if now, err := StartTime(pid); err != nil || now != began {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	const zombie = 'Z' // until its parent has heard of its end
	at := bytes.LastIndexByte(b, ')')
	return err == nil && at > 0 && at+2 < len(b) && b[at+2] != zombie
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
