package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
)

// What root's processes here may still do. docs/config.md tells what for.
var (
	daemonCapabilities = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_DAC_OVERRIDE, unix.CAP_KILL}
	// A daemon whose QEMUs have a user of their own starts them as that one, and
	// gives it its files.
	userCapabilities = []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_CHOWN}
	// A supervisor ends QEMUs, of any user: the next daemon's may have one that this
	// one's have not. One that the daemon started has the daemon's.
	supervisorCapabilities = []uintptr{unix.CAP_KILL}
	// A witness only talks.
	otherCapabilities = []uintptr{}
	// A console is a file that a specification names, of any user.
	consoleCapabilities = []uintptr{unix.CAP_DAC_OVERRIDE}
)

// The main goroutine stays on the first thread: the signal that a parent's end sends
// is that thread's, and an exec from another one loses it.
func init() { runtime.LockOSThread() }

// needed are the capabilities that a daemon keeps.
func needed(c config.Config) []uintptr {
	if c.QEMU.User == "" {
		return daemonCapabilities
	}
	return slices.Concat(daemonCapabilities, userCapabilities)
}

// qemuUser is whom the configuration wants QEMU to run as; nil is the daemon's user.
func qemuUser(c config.Config) (*machine.User, error) {
	if c.QEMU.User == "" {
		return nil, nil
	}
	u, err := machine.LookupUser(c.QEMU.User)
	if err == nil && os.Geteuid() != 0 {
		err = fmt.Errorf("only a daemon that runs as root can run QEMU as another user, and this one runs as user %d: remove the setting", os.Geteuid())
	}
	if err == nil {
		err = holds(needed(c))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: qemu.user: %w", c.File, err)
	}
	return u, nil
}

// capabilityNames for people.
var capabilityNames = map[uintptr]string{unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_NET_RAW: "CAP_NET_RAW", unix.CAP_DAC_OVERRIDE: "CAP_DAC_OVERRIDE",
	unix.CAP_KILL: "CAP_KILL", unix.CAP_SETUID: "CAP_SETUID", unix.CAP_SETGID: "CAP_SETGID", unix.CAP_CHOWN: "CAP_CHOWN"}

// holds fails unless this process may use all of these capabilities.
func holds(capabilities []uintptr) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read this process's capabilities: %w", err)
	}
	var missing []string
	for _, c := range capabilities {
		if data[c/32].Effective&(1<<(c%32)) == 0 {
			missing = append(missing, capabilityNames[c])
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("this process lacks %s: add it to CapabilityBoundingSet= in its unit", strings.Join(missing, ", "))
	}
	return nil
}

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
