//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// supervise starts the program again whenever it ends, not too fast, and says
// why it ended. As the init process it reaps the orphans as well, so nobody
// else in this process may start one. It returns only if the program does not
// start.
func supervise(program []string) error {
	for {
		if program == nil {
			_ = unix.Pause()
			continue
		}
		pid, err := start(program)
		if err != nil {
			return err
		}
		fmt.Printf("STILLPOINT-GUEST: %v ended: %s\n", program, reapUntil(pid))
		time.Sleep(time.Second)
	}
}

func start(program []string) (pid int, err error) {
	p, err := os.StartProcess(program[0], program, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return 0, fmt.Errorf("start %v: %w", program, err)
	}
	pid = p.Pid
	return pid, p.Release() // reapUntil waits for it
}

// reapUntil reaps whatever ends, up to the process pid.
func reapUntil(pid int) string {
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err.Error()
		case ended == pid:
			return reason(status)
		}
	}
}

func reason(status unix.WaitStatus) string {
	if status.Signaled() {
		return "signal " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
