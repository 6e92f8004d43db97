// Command guestinit is the init process of the lab's guests. With /nat in the
// image it runs that; without, the kernel routes between two cards.
//
// Kernel command line:
//
//	stillpoint.nat=FLAG,FLAG...   flags of /nat
//	stillpoint.eth0=ADDR/BITS     addresses of the plain guest's cards
//	stillpoint.eth1=ADDR/BITS
//	stillpoint.dirty=PAGES        rewrite this many pages every 10 ms
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const path = "/bin:/sbin:/usr/bin:/usr/sbin"

func main() {
	if err := start(); err != nil {
		fmt.Println("STILLPOINT-GUEST failed:", err)
		unix.Sync()
		unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	for {
		unix.Pause()
	}
}

func start() error {
	os.Setenv("PATH", path)
	if err := mounts(); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	options, err := commandLine()
	if err != nil {
		return err
	}
	if err := cards(options); err != nil {
		return err
	}
	if pages, err := strconv.Atoi(options["dirty"]); err == nil && pages > 0 {
		go dirty(pages)
	}
	fmt.Println("STILLPOINT-GUEST ready")
	if _, err := os.Stat("/nat"); err == nil {
		go keepRunning("/nat", flags(options["nat"]))
		return nil
	}
	return route()
}

func mounts() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// loadModules in the order of their names.
func loadModules() error {
	found, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	sort.Strings(found)
	for _, name := range found {
		if err := load(name); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

func load(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// commandLine returns the kernel's options that begin with "stillpoint.".
func commandLine() (map[string]string, error) {
	b, err := os.ReadFile("/proc/cmdline")
	options := map[string]string{}
	for _, word := range strings.Fields(string(b)) {
		if name, found := strings.CutPrefix(word, "stillpoint."); found {
			name, value, _ := strings.Cut(name, "=")
			options[name] = value
		}
	}
	return options, err
}

func flags(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// cards brings the network cards up. Without an address the kernel's own
// network stack stays out of the application's way.
func cards(options map[string]string) error {
	if err := busybox("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	found, err := filepath.Glob("/sys/class/net/eth*")
	if err != nil {
		return err
	}
	for _, dir := range found {
		name := filepath.Base(dir)
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
		if address := options[name]; address != "" {
			if err := busybox("ip", "addr", "add", address, "dev", name); err != nil {
				return err
			}
		}
		if err := busybox("ip", "link", "set", name, "up", "promisc", "on"); err != nil {
			return err
		}
	}
	return nil
}

func busybox(args ...string) error {
	out, err := exec.Command("/bin/busybox", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func route() error {
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

// keepRunning restarts the program, not too fast, and says why it ended.
func keepRunning(program string, args []string) {
	for {
		cmd := exec.Command(program, args...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		err := cmd.Run()
		fmt.Printf("STILLPOINT-GUEST: %s %v ended: %v\n", program, args, err)
		time.Sleep(time.Second)
	}
}

// dirty rewrites pages for ever.
func dirty(pages int) {
	const size = 4096
	memory := make([]byte, pages*size)
	for n := byte(1); ; n++ {
		for at := 0; at < len(memory); at += size {
			memory[at] = n
		}
		time.Sleep(10 * time.Millisecond)
	}
}
