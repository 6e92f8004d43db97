package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process holds of the kernel.
type Usage struct {
	CPU         time.Duration // that all its threads have used so far
	Descriptors int
	Threads     int
	RSS         uint64 // resident memory, bytes
	Anonymous   uint64 // the part of it that no file backs: the process's own
}

// UsageOf a process. Compare two of them to find a leak.
func UsageOf(p Process) (Usage, error) {
	u, err := usageOf(p.PID)
	if err == nil && !p.Alive() { // else it may be another's
		err = os.ErrProcessDone
	}
	if err != nil {
		return Usage{}, fmt.Errorf("usage of process %d: %w", p.PID, err)
	}
	return u, nil
}

func usageOf(pid int) (u Usage, err error) {
	fds, err := os.ReadDir(procPath(pid, "fd"))
	if err != nil {
		return u, err
	}
	u.Descriptors = len(fds)
	if u.CPU, err = cpuOf(pid); err != nil {
		return u, err
	}
	status, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return u, err
	}
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		number, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		switch key {
		case "Threads":
			u.Threads, err = strconv.Atoi(number)
		case "VmRSS": // in kB
			u.RSS, err = strconv.ParseUint(number, 10, 64)
			u.RSS <<= 10
		case "RssAnon":
			u.Anonymous, err = strconv.ParseUint(number, 10, 64)
			u.Anonymous <<= 10
		}
		if err != nil {
			return u, fmt.Errorf("%s: %w", key, err)
		}
	}
	return u, lines.Err()
}

// cpuOf reads the clock of a process, which clock_getcpuclockid(3) names so.
func cpuOf(pid int) (time.Duration, error) {
	const scheduled = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}
