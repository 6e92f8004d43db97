package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
)

// dropsPrivileges is the environment of a process that tells what it has left.
const dropsPrivileges = "STILLPOINT_TEST_DROPS_PRIVILEGES"

func TestMain(m *testing.M) {
	if part := os.Getenv(plays); part != "" {
		play(part)
		return
	}
	if os.Getenv(dropsPrivileges) == "" {
		os.Exit(m.Run())
	}
	if err := dropAfterOthers(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// dropAfterOthers drops privileges when another goroutine has taken the first thread
// if it can, and tells which signal a parent's end sends after that.
func dropAfterOthers() error {
	taken := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(taken)
		select {}
	}()
	<-taken
	if err := dropPrivileges(daemonCapabilities); err != nil {
		return err
	}
	var signal int32
	if err := unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0, 0, 0); err != nil {
		return err
	}
	fmt.Print(syscall.Signal(signal))
	return nil
}

func TestUserOfQEMU(t *testing.T) {
	c := config.Default()
	if u, err := qemuUser(c); u != nil || err != nil {
		t.Errorf("none: %v, %v", u, err)
	}
	c.File, c.QEMU.User = "/etc/hostd.yaml", "nobody-of-that-name"
	if _, err := qemuUser(c); err == nil || !strings.Contains(err.Error(), "/etc/hostd.yaml: qemu.user: ") || !strings.Contains(err.Error(), "nobody-of-that-name") {
		t.Errorf("one who is not known: %v", err)
	}
	c.QEMU.User = "64123:64124"
	_, err := qemuUser(c)
	if os.Geteuid() != 0 && (err == nil || !strings.Contains(err.Error(), "only a daemon of root")) {
		t.Errorf("for a daemon that is not root's: %v", err)
	}
	if os.Geteuid() == 0 && (err == nil) != (holds(needed(c)) == nil) {
		t.Errorf("for root: %v", err)
	}
	for _, more := range []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_CHOWN} {
		if slices.Contains(daemonCapabilities, more) || !slices.Contains(needed(c), more) {
			t.Errorf("capability %s is kept without a user, or not with one", capabilityNames[more])
		}
	}
}

// TestHolds in a thread that has given something up.
func TestHolds(t *testing.T) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- nil
			return
		}
		done <- holds([]uintptr{unix.CAP_KILL, unix.CAP_CHOWN})
	}()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "lacks CAP_KILL, CAP_CHOWN") {
		t.Errorf("got %v", err)
	}
}

// TestTheEndOfAParentIsTold after the drop, too, to whoever has asked for it.
func TestTheEndOfAParentIsTold(t *testing.T) {
	runtime.LockOSThread() // the parent is a thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), dropsPrivileges+"=1", "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); got != syscall.SIGKILL.String() {
		t.Errorf("a parent's end sends %q, want %q", got, syscall.SIGKILL)
	}
}
