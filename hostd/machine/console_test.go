package machine

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/console"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// keptMachine has a log with a keeper, which this daemon need not have started, and an older
// part beside it. say what QEMU says, and end with it.
func keptMachine(t *testing.T) (m *Machine, say *os.File, kept <-chan error) {
	t.Helper()
	m = &Machine{o: Options{Spec: spec.Machine{Name: "m"}, StateDir: t.TempDir(), Log: hclog.NewNullLogger()}}
	r, w, err := os.Pipe()
	if err == nil {
		err = errors.Join(os.WriteFile(m.outputFile(), nil, privateFile), os.WriteFile(m.outputFile()+olderPart, []byte("older ones"), privateFile))
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- console.Keep(r, console.Options{Path: m.outputFile(), Limit: console.Least, Log: hclog.NewNullLogger()})
	}()
	f, err := os.Open(m.outputFile())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for !console.IsKept(f) {
		time.Sleep(time.Millisecond)
	}
	t.Cleanup(func() { w.Close() })
	return m, w, ended
}

// isEmpty says that a log has begun anew.
func (m *Machine) isEmpty(t *testing.T) {
	t.Helper()
	if b, err := os.ReadFile(m.outputFile()); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := os.Stat(m.outputFile() + olderPart); !os.IsNotExist(err) {
		t.Error("the older part is there still")
	}
}

// TestANewLogHasNothingOfTheLast: the keeper of an earlier QEMU has written what it has
// before the log begins anew.
func TestANewLogHasNothingOfTheLast(t *testing.T) {
	m, say, kept := keptMachine(t)
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
	if _, err := say.WriteString("the last words"); err != nil {
		t.Fatal(err)
	}
	say.Close()
	if err := errors.Join(<-kept, <-begun); err != nil {
		t.Fatal(err)
	}
	m.isEmpty(t)
}

// TestALogThatStaysLocked keeps no machine from its start: its disk may hang.
func TestALogThatStaysLocked(t *testing.T) {
	m, say, kept := keptMachine(t)
	f, err := m.newLog()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := say.WriteString("late words"); err != nil {
		t.Fatal(err)
	}
	say.Close()
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	m.isEmpty(t)
}
