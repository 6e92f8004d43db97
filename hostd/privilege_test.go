package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
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
