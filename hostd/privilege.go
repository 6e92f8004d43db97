package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// What root's processes here may still do. docs/config.md tells what for.
var (
	daemonCapabilities = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_DAC_OVERRIDE}
	// A witness and a supervisor only talk and send signals to processes of
	// their own user. A supervisor that the daemon started has the daemon's.
	otherCapabilities = []uintptr{}
	// A console is a file that a specification names, of any user.
	consoleCapabilities = []uintptr{unix.CAP_DAC_OVERRIDE}
)

// The main goroutine stays on the first thread: the signal that a parent's end sends
// is that thread's, and an exec from another one loses it.
func init() { runtime.LockOSThread() }

// dropPrivileges gives up every capability but those kept, for this process and
// all that it starts. The kernel takes them away at exec, so a process that has
// more runs itself again: nothing else has been done yet.
func dropPrivileges(keep []uintptr) error {
	if os.Geteuid() != 0 {
		return nil // what the unit file left is little enough
	}
	runtime.LockOSThread() // the bounding set is the thread's
	dropped, err := dropBounding(keep)
	if err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	if !dropped {
		runtime.UnlockOSThread()
		return nil
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, os.Environ())
	}
	return fmt.Errorf("run again with fewer privileges: %w", err)
}

// dropBounding reports whether there was anything to drop.
func dropBounding(keep []uintptr) (dropped bool, err error) {
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil {
			return dropped, nil // this kernel knows no more
		}
		if held == 0 {
			continue
		}
		err = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EPERM) {
			return dropped, nil // whoever started this process has dropped what drops
		}
		if err != nil {
			return dropped, fmt.Errorf("drop capability %d: %w", c, err)
		}
		dropped = true
	}
	return dropped, nil
}
