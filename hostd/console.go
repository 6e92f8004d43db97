package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/console"
)

// consoleInput is the descriptor of a console's keeper.
const consoleInput = 3

// consoleKeeper is the command that keeps a console.
func consoleKeeper(file string, limit int64) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = "hostd" // that it cannot be run tells the error
	}
	return exec.Command(self, "console", "--limit", strconv.FormatInt(limit, 10), "--", file)
}

// keepConsole ends with the QEMU at the other end, and with nothing else: whoever
// ends a daemon, or all that it has started, loses no console.
func keepConsole(path string, limit int64, log hclog.Logger) error {
	endure()
	if err := dropPrivileges(consoleCapabilities); err != nil {
		return err
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	unix.Umask(0o077)
	unix.CloseOnExec(consoleInput)
	in := os.NewFile(consoleInput, "console")
	if in == nil {
		return errors.New("console: descriptor 3 is not open; the daemon starts this command itself")
	}
	defer in.Close()
	if err := console.Keep(in, console.Options{Path: path, Limit: limit, Log: log.Named("console")}); err != nil {
		return fmt.Errorf("keep a console: %w", err)
	}
	return nil
}
