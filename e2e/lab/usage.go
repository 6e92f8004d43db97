package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process holds of the kernel.
type Usage struct {
	Descriptors int
	Threads     int
	RSS         uint64 // resident memory, bytes
	Anonymous   uint64 // the part of it that no file backs: the process's own
	// CPU is the processor time that it has used, to a clock tick.
	CPU time.Duration
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
	if err := lines.Err(); err != nil {
		return u, err
	}
	u.CPU, err = processorTime(pid)
	return u, err
}

// clockTick is the unit of times in /proc, the same on every Linux of today.
const clockTick = 10 * time.Millisecond

// processorTime reads utime and stime of proc_pid_stat(5), the 14th and 15th
// field; the second one is a name in parentheses that may hold anything.
func processorTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%d fields after the name in stat", len(fields))
	}
	var ticks uint64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseUint(string(f), 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}
