package main

import (
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

// keeperInput is the first descriptor of a keeper of what a machine prints.
const keeperInput = 3

// keeper is the command that keeps it.
func keeper(files []string, limit int64) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = "hostd" // that it cannot be run tells the error
	}
	return exec.Command(self, append([]string{"console", "--limit", strconv.FormatInt(limit, 10), "--"}, files...)...)
}

// keepConsole ends with the QEMU at the other end, and with nothing else: whoever
// ends a daemon, or all that it has started, loses nothing of it.
func keepConsole(paths []string, limit int64, log hclog.Logger) error {
	endure(log)
	if err := dropPrivileges(consoleCapabilities); err != nil {
		return err
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	unix.Umask(0o077)
	if err := console.KeepAll(keeperInput, paths, limit, log.Named("console")); err != nil {
		return fmt.Errorf("keep what a machine prints: %w", err)
	}
	return nil
}
