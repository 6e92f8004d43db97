package pki

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stillpoint-ft/stillpoint/e2e/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen soon; no test waits for it.
const patience = time.Minute

// authorityOf makes a directory with an authority and hosts.
func authorityOf(t *testing.T, hosts ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if err := Init(dir, InitOptions{Hosts: hosts}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func filesOf(dir, host string) Files {
	return Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, host+".crt"), Key: filepath.Join(dir, host+".key")}
}

func load(t *testing.T, dir, host string, o Options) *Identity {
	t.Helper()
	id, err := Load(filesOf(dir, host), o)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func renew(t *testing.T, dir, host string) {
	t.Helper()
	if err := Issue(dir, host, true, InitOptions{}); err != nil {
		t.Fatal(err)
	}
}

// put writes a file as an operator would: whole, by renaming.
func put(t *testing.T, path string, mode os.FileMode, parts ...[]byte) {
	t.Helper()
	if err := os.WriteFile(path+".tmp", bytes.Join(parts, nil), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".tmp", mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func copyPair(t *testing.T, from, to Files) {
	t.Helper()
	put(t, to.Key, 0o600, get(t, from.Key))
	put(t, to.Cert, 0o644, get(t, from.Cert))
}

// met is what became of a handshake: each side's error and state.
type met struct {
	client, server           error
	clientState, serverState tls.ConnectionState
	clientConn, serverConn   *tls.Conn
}

// meet shakes hands over a loopback connection. A TLS 1.3 client only learns
// with the server's first byte whether it was admitted, so one byte is sent.
func meet(t *testing.T, client, server *tls.Config) met {
	t.Helper()
	near, far := loopback.Pair(t)
	for _, c := range []net.Conn{near, far} {
		c.SetDeadline(time.Now().Add(patience))
	}
	m := met{clientConn: tls.Client(near, client), serverConn: tls.Server(far, server)}
	var side sync.WaitGroup
	side.Go(func() {
		if m.server = m.serverConn.Handshake(); m.server == nil {
			_, m.server = m.serverConn.Write([]byte("!"))
		}
		if m.server != nil {
			far.Close()
		}
	})
	if m.client = m.clientConn.Handshake(); m.client == nil {
		_, m.client = io.ReadFull(m.clientConn, make([]byte, 1))
	}
	if m.client != nil {
		near.Close()
	}
	side.Wait()
	m.clientState, m.serverState = m.clientConn.ConnectionState(), m.serverConn.ConnectionState()
	return m
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// admitted fails the test unless both sides went through.
func (m met) admitted(t *testing.T) met {
	t.Helper()
	if err := errors.Join(m.client, m.server); err != nil {
		t.Fatal(err)
	}
	return m
}

// clock is set by the test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newClock() *clock { return &clock{at: time.Now()} }
