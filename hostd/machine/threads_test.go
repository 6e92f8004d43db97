package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// playThreads makes this test's process a QEMU with two threads, of which the one
// that standard input names ends.
const playThreads = "STILLPOINT_PLAY_THREADS"

func init() {
	if os.Getenv(playThreads) != "" {
		runtime.LockOSThread() // the first thread ends for nobody
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(playThreads) != "" {
		play()
		return
	}
	os.Exit(m.Run())
}

func play() {
	end := map[string]chan bool{"CPU 0/TCG": make(chan bool), "worker": make(chan bool)}
	for name, ended := range end {
		named := make(chan bool)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			text, err := unix.BytePtrFromString(name)
			if err == nil {
				err = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(text)), 0, 0, 0)
			}
			if err != nil {
				panic(err)
			}
			close(named)
			<-ended
		}()
		<-named
	}
	os.Stdout.WriteString("ready\n")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		close(end[lines.Text()])
	}
}

// TestEndingIsKnownBeforeTheEnd: by a thread that QEMU has for as long as it lives.
func TestEndingIsKnownBeforeTheEnd(t *testing.T) {
	if fd, err := unix.PidfdOpen(unix.Gettid(), unix.PIDFD_THREAD); errors.Is(err, unix.EINVAL) {
		t.Skip("this kernel has no descriptors of threads (Linux 6.9)")
	} else if err == nil {
		unix.Close(fd)
	}
	m, end := threaded(t)
	if len(m.threads) != 1 {
		t.Fatalf("%d threads are watched, want the virtual CPU's", len(m.threads))
	}
	end("worker")
	gone(t, m.Pid(), "worker")
	select {
	case <-m.Ending():
		t.Fatal("the end of a worker was taken for QEMU's")
	default:
	}
	end("CPU 0/TCG")
	within(t, m.Ending())
	select {
	case <-m.Exited():
		t.Fatal("the process has ended, too")
	default:
	}
	m.Kill()
	within(t, m.Exited())
}

// TestEndingComesWithTheEnd: without threads to watch, as on older kernels.
func TestEndingComesWithTheEnd(t *testing.T) {
	m, _ := threaded(t)
	m.Release()
	m.Kill()
	within(t, m.Ending())
}

func threaded(t *testing.T) (m *Machine, end func(thread string)) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), playThreads+"=1")
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	m = newMachine(Options{Log: hclog.NewNullLogger(), StateDir: t.TempDir()})
	m.process = child{cmd.Process}
	go func() { m.ended(cmd.Wait()) }()
	t.Cleanup(m.Kill)
	m.watchThreads()
	return m, func(thread string) { io.WriteString(in, thread+"\n") }
}

// gone waits until a process has no thread of that name.
func gone(t *testing.T, pid int, name string) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		if !hasThread(t, pid, name) {
			return
		}
	}
	t.Fatalf("thread %q does not end", name)
}

func within(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("nothing for 10 s")
	}
}

func hasThread(t *testing.T, pid int, name string) bool {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range names {
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == name {
			return true
		}
	}
	return false
}
