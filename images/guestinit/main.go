//go:build linux

// Command guestinit is the init process of the lab's guests. With /nat in the
// image it runs that; without, the kernel routes between the network cards and
// a UDP echo answers on port 7.
//
// Kernel command line:
//
//	stillpoint.nat=FLAG,FLAG...    flags of /nat
//	stillpoint.eth0=ADDR/BITS,...  addresses of a plain guest's card; any ethN
//	stillpoint.dirty=PAGES         rewrite this many pages every 10 ms
//	stillpoint.channel=flood       fill the agent channel with garbage, for ever
//	stillpoint.offloads=keep       leave the cards their offloads, as most systems do
//	stillpoint.shell               a plain guest runs a shell on its console
//
// It prints "STILLPOINT-GUEST ready" on the console when the guest is, and
// "STILLPOINT-GUEST failed: " with the reason before it powers off.
package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	fmt.Println("STILLPOINT-GUEST failed:", run())
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// run returns only if the guest cannot go on.
func run() error {
	os.Setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
	if err := mounts(); err != nil {
		return err
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	o, err := parseOptions(string(line))
	if err != nil {
		return fmt.Errorf("kernel command line: %w", err)
	}
	o.plain = !exists("/nat")
	if err := cards(o); err != nil {
		return err
	}
	if o.plain {
		if err := route(o); err != nil {
			return err
		}
	}
	if o.dirty > 0 {
		go dirty(o.dirty)
	}
	if o.flood {
		go flood("/dev/vport*")
	}
	fmt.Println("STILLPOINT-GUEST ready")
	return supervise(o.program())
}

// program is what the guest is for; none where the kernel does the work.
func (o options) program() []string {
	switch {
	case !o.plain:
		return append([]string{"/nat"}, o.nat...)
	case o.shell:
		return []string{"/bin/sh"}
	default:
		return nil
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func mounts() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}
