package machine

import (
	"errors"
	"net"
	"os"
	"testing"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// TestFindTellsBusyFromGone: a QEMU that takes no connection now is one all the same.
func TestFindTellsBusyFromGone(t *testing.T) {
	o := Options{Spec: spec.Machine{Name: "m"}, RunDir: t.TempDir()}
	path := (&Machine{o: o}).monitorSocket()
	find := func() error {
		m, err := Find(o, nil)
		m.Release()
		return err
	}
	if err := find(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a socket: %v", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if err := find(); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("with a full queue: %v", err)
	}
	unix.Close(fd)
	if err := find(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("with a socket that nobody has open: %v", err)
	}
	os.Remove(path)
}

// TestARefusedStartRemovesNothing of the QEMU that it was refused for.
func TestARefusedStartRemovesNothing(t *testing.T) {
	o := Options{Spec: spec.Machine{Name: "m", Memory: 1 << 20}, RunDir: t.TempDir(), RAMDir: t.TempDir(), StateDir: t.TempDir(), Log: hclog.NewNullLogger()}
	m := &Machine{o: o}
	running, err := net.Listen("unix", m.monitorSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	for _, path := range []string{m.RAMFile(), m.AgentSocket()} {
		if err := os.WriteFile(path, []byte("in use"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Start(t.Context(), o)
	wantError(t, err, "left from an earlier daemon")
	for _, path := range []string{m.RAMFile(), m.AgentSocket(), m.monitorSocket()} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}
