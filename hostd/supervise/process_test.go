package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSpawn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	script := `echo "$WORD|$1"; pwd; readlink /proc/self/fd/0; exec sleep 1000`
	pid, err := Spawn("sh", []string{"-c", script, "sh", "a b*'"}, []string{"WORD=said", "PATH=" + os.Getenv("PATH")}, log)
	if err != nil {
		t.Fatal(err)
	}
	p, err := openProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	defer p.kill()
	until(t, "it says all", func() bool {
		b, _ := os.ReadFile(path)
		return string(b) == "said|a b*'\n/\n/dev/null\n"
	})
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var state string
	var parent, group, session, terminal int
	fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &parent, &group, &session, &terminal)
	own, _ := unix.Getsid(0)
	if parent == os.Getpid() || session == own || terminal != 0 {
		t.Errorf("parent %d, session %d, terminal %d", parent, session, terminal)
	}
	until(t, "the pipe is not its own", func() bool { // the loader opens the same number for a moment
		_, err := os.Stat(fmt.Sprintf("/proc/%d/fd/3", pid))
		return errors.Is(err, os.ErrNotExist)
	})
	if err := p.kill(); err != nil {
		t.Error(err)
	}
	if err := p.wait(); err != nil {
		t.Error(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("it is a child of the caller: %v", err)
	}
	if err := p.kill(); err != nil {
		t.Errorf("the second kill: %v", err)
	}
	if _, err := Spawn("/nowhere/program", nil, nil, nil); err == nil || !strings.Contains(err.Error(), "/nowhere/program") {
		t.Errorf("a program that is missing: %v", err)
	}
}

// connectAs connects as another user, on a thread that ends with it.
func connectAs(uid int, path string) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
			err = e
			return
		}
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}()
	<-done
	return fd, err
}

func TestAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	const nobody = 65534
	s := start(t, noGrace, farAway, ours)
	for dir := filepath.Dir(s.o.Socket); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	daemon := s.dial()
	fd, err := connectAs(nobody, s.o.Socket)
	unix.Close(fd)
	if !errors.Is(err, unix.EACCES) {
		t.Errorf("the socket's mode: %v", err)
	}
	if err := os.Chmod(s.o.Socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if fd, err = connectAs(nobody, s.o.Socket); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20})
	if n, err := unix.Read(fd, make([]byte, 100)); n != 0 || err != nil {
		t.Errorf("another user was served: %d bytes, %v", n, err)
	}
	if _, err := daemon.List(limited(t)); err != nil {
		t.Errorf("the daemon was disturbed: %v", err)
	}
}

func TestProcessEnds(t *testing.T) {
	q := newFalseQEMU(t, "none", "running")
	p, err := openProcess(q.pid())
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- p.wait() }()
	p.close()
	select {
	case err := <-waited:
		if err == nil {
			t.Error("a wait that was given up looks like an end")
		}
	case <-time.After(2 * time.Minute):
		t.Error("close does not end the wait")
	}
}
