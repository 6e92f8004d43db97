package daemon_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAStateDirectoryThatHangs: nothing can be saved, and no try returns. The machine is
// protected, and ended by an operator, all the same.
func TestAStateDirectoryThatHangs(t *testing.T) {
	a, _ := pairOfHosts(t)
	a.mustStart("m", "")
	pid := int(a.machine("m").QemuPid)
	path := filepath.Join(a.config.StateDir, "machines", "m.json.new")
	// Whoever writes to it waits for a reader. The file of a try under way has its name.
	a.await("the last try's end", func() bool { return unix.Mkfifo(path, 0o600) == nil })
	if err := a.protect("m", "b"); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- a.stop("m") }()
	a.await("the end of its QEMU", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
	reader, err := os.OpenFile(path, os.O_RDWR, 0) // a disk that answers again
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
