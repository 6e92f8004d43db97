package falseqemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// Within is a QEMU that is played within a test's process, for tests of one half of a pair.
// Its methods are those that the halves need.
type Within struct {
	q       *qemu
	dir     string
	monitor *qmp.Client
	ended   chan struct{}
	ending  sync.Once
}

// Begin plays a guest of so many bytes of memory until the test ends. incoming: it waits
// for a takeover.
func Begin(t testing.TB, g Guest, memory uint64, incoming bool) *Within {
	t.Helper()
	dir, err := os.MkdirTemp("", "qemu") // a test's own is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &Within{dir: dir, ended: make(chan struct{})}
	w.q = &qemu{guest: g, memory: memory, agent: make(chan net.Conn, 1), status: "none", runState: "running", capabilities: map[string]bool{}, die: w.Kill}
	if incoming {
		w.q.runState = "inmigrate"
	}
	if err := os.WriteFile(w.RAMFile(), make([]byte, memory), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", w.path("qmp"))
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { _ = w.q.accept(l) })
	if w.monitor, err = qmp.Dial(t.Context(), w.path("qmp"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Kill()
		w.monitor.Close()
		l.Close()
		served.Wait()
	})
	return w
}

func (w *Within) path(name string) string { return filepath.Join(w.dir, name) }

// RAMFile is the file of its memory.
func (w *Within) RAMFile() string { return w.path("ram") }

// Monitor is connected.
func (w *Within) Monitor() *qmp.Client { return w.monitor }

// ListenCOLO waits for the stream of a protection.
func (w *Within) ListenCOLO() (capture.Listener, error) {
	return capture.ListenUnix(w.path("colo"), "unix:"+w.path("colo"))
}

// IncomingURI is where it takes the stream of a takeover.
func (w *Within) IncomingURI() string { return "unix:" + w.path("incoming") }

// DialIncoming connects to that.
func (w *Within) DialIncoming(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", w.path("incoming"))
}

// Ending is closed when it ends.
func (w *Within) Ending() <-chan struct{} { return w.ended }

// Exited is the same here.
func (w *Within) Exited() <-chan struct{} { return w.ended }

// Reason of its end.
func (w *Within) Reason() error { return fmt.Errorf("QEMU ended: %w", errEnded) }

var errEnded = errors.New("it was ended")

// Signal is Kill here.
func (w *Within) Signal() { w.Kill() }

// Kill ends it.
func (w *Within) Kill() { w.ending.Do(func() { close(w.ended) }) }
