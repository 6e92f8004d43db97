package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// detach runs its arguments in the background and tells their process number
// on descriptor 3. The shell ends at once, so the program is nobody's child
// but init's, leads no session and so never gets a terminal.
const detach = `"$@" 3>&- </dev/null & echo $! >&3`

// Spawn starts a program that outlives this process: in a session of its own,
// without a terminal, in the directory /, with no input. It prints to log (nil
// for nowhere), whose descriptor stays the caller's. env is the whole
// environment. The program is not this process's child: init reaps it, here is
// nothing to wait for. That it could not be run after all shows in the log
// only. Under systemd it stays in the caller's control group; let systemd start
// it, or set KillMode=process.
func Spawn(binary string, args []string, env []string, log *os.File) (pid int, err error) {
	if pid, err = spawn(binary, args, env, log); err != nil {
		return 0, fmt.Errorf("start %s: %w", binary, err)
	}
	return pid, nil
}

func spawn(binary string, args, env []string, log *os.File) (int, error) {
	path, err := exec.LookPath(binary)
	if err != nil {
		return 0, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer read.Close()
	shell := exec.Command("/bin/sh", append([]string{"-c", detach, "sh", path}, args...)...)
	shell.Dir, shell.Env = "/", append([]string{}, env...)
	shell.ExtraFiles = []*os.File{write}
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if log != nil {
		shell.Stdout, shell.Stderr = log, log
	}
	err = shell.Run()
	write.Close()
	number, failed := io.ReadAll(read)
	if err := errors.Join(err, failed); err != nil {
		return 0, err
	}
	return strconv.Atoi(string(bytes.TrimSpace(number)))
}
