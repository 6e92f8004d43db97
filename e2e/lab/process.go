package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one process for good: a pid may be given to another process
// later, a pid with its start time may not.
type Process struct {
	PID     int
	Started uint64 // clock ticks since boot, proc_pid_stat(5) field 22
}

// FindProcess returns the running process of a pid. One that has ended but
// was not waited for does not count.
func FindProcess(pid int) (Process, error) {
	b, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return Process{}, err
	}
	fields := statFields(b)
	const state, started = 0, 19 // fields 3 and 22
	if len(fields) <= started {
		return Process{}, fmt.Errorf("process %d: short stat %q", pid, b)
	}
	if s := fields[state]; s == "Z" || s == "X" {
		return Process{}, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	ticks, err := strconv.ParseUint(fields[started], 10, 64)
	if err != nil {
		return Process{}, fmt.Errorf("process %d: start time: %w", pid, err)
	}
	return Process{pid, ticks}, nil
}

// statFields are the fields of proc_pid_stat(5) from the third on: the command
// before them, in parentheses, may itself hold spaces and parentheses.
func statFields(stat []byte) []string {
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}

// commandLine is that of a process; none if it has ended.
func commandLine(pid int) []string {
	b, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// Alive reports whether this very process still runs.
func (p Process) Alive() bool {
	now, err := FindProcess(p.PID)
	return err == nil && now == p
}

// Signal sends a signal to this very process. It returns os.ErrProcessDone
// when the process is gone.
func (p Process) Signal(s unix.Signal) error {
	fd, err := p.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil {
		return p.error(fmt.Sprintf("signal %s", unix.SignalName(s)), err)
	}
	return nil
}

// Wait until this very process has ended.
func (p Process) Wait(ctx context.Context) error {
	fd, err := p.open()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const slice = 20 // ms between looks at the context
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, slice)
		if err != nil && err != unix.EINTR {
			return p.error("wait for", err)
		}
		if n > 0 {
			return nil
		}
	}
	return p.error("wait for", ctx.Err())
}

// open returns a pidfd. The start time is checked after opening: from then on
// the descriptor means the same process, whatever happens to the pid.
func (p Process) open() (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return -1, p.error("open", err)
	}
	if !p.Alive() {
		unix.Close(fd)
		return -1, p.error("open", unix.ESRCH)
	}
	return fd, nil
}

func (p Process) error(op string, err error) error {
	if err == unix.ESRCH {
		err = os.ErrProcessDone
	}
	return fmt.Errorf("%s process %d: %w", op, p.PID, err)
}

// processesIn lists the processes inside a network namespace.
func processesIn(space inode) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process that ends meanwhile is no error.
		if id, err := inodeOf(procPath(pid, "ns/net")); err == nil && id == space {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// carries reports whether a process was started with NAME=VALUE in its
// environment. While a process executes another program its environment looks
// empty; it is looked at again then.
func carries(pid int, variable string) bool {
	const looks, between = 100, time.Millisecond
	for range looks {
		b, err := os.ReadFile(procPath(pid, "environ"))
		if err != nil {
			return false
		}
		if len(b) > 0 {
			return slices.Contains(strings.Split(string(b), "\x00"), variable)
		}
		time.Sleep(between)
	}
	return false
}

// killAll sends SIGKILL to what list returns until it returns nothing more:
// a process may have forked between the look and the signal.
func killAll(list func() ([]Process, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		ps, err := list()
		if err != nil || len(ps) == 0 {
			return err
		}
		for _, p := range ps {
			if err := p.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		}
		for _, p := range ps {
			if err := p.Wait(ctx); err != nil {
				return err
			}
		}
	}
}

func procPath(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}
