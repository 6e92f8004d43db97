package machine

import (
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// lock a file as its keeper does.
func lock(t *testing.T, f *os.File) {
	t.Helper()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err != nil {
		t.Fatal(err)
	}
}

// TestANewLogHasNothingOfTheLast: the keeper of an earlier QEMU, which this daemon need not
// have started, has written what it has before the log begins anew.
func TestANewLogHasNothingOfTheLast(t *testing.T) {
	m := &Machine{o: Options{Spec: spec.Machine{Name: "m"}, StateDir: t.TempDir(), Log: hclog.NewNullLogger()}}
	keeper, err := os.OpenFile(m.outputFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, privateFile)
	if err != nil {
		t.Fatal(err)
	}
	lock(t, keeper)
	begun := make(chan error, 1)
	go func() {
		f, err := m.newLog()
		if err == nil {
			f.Close()
		}
		begun <- err
	}()
	select {
	case err := <-begun:
		t.Fatalf("it has begun while the last one is written: %v", err)
	case <-time.After(20 * keeperLook):
	}
	if _, err := keeper.WriteString("the last words"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.outputFile()+olderPart, []byte("older ones"), privateFile); err != nil {
		t.Fatal(err)
	}
	keeper.Close()
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(m.outputFile()); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := os.Stat(m.outputFile() + olderPart); !os.IsNotExist(err) {
		t.Error("the older part is there still")
	}
}

// TestALogThatStaysLocked keeps no machine from its start: its disk may hang.
func TestALogThatStaysLocked(t *testing.T) {
	m := &Machine{o: Options{Spec: spec.Machine{Name: "m"}, StateDir: t.TempDir(), Log: hclog.NewNullLogger()}}
	keeper, err := os.Create(m.outputFile())
	if err != nil {
		t.Fatal(err)
	}
	defer keeper.Close()
	lock(t, keeper)
	f, err := m.newLog()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := keeper.WriteString("late words"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(m.outputFile()); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
}
