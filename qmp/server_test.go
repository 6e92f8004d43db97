package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	greeting = `{"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}, "package": "Debian"}, "capabilities": ["oob"]}}`
	done     = `{"return": {}}`
)

// server is QEMU's end of a QMP socket; the test is its script.
type server struct {
	t        *testing.T
	path     string
	listener *net.UnixListener
	conn     *net.UnixConn
	lines    *bufio.Scanner
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, path: filepath.Join(t.TempDir(), "qmp")}
	var err error
	s.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.listener.Close()
		if s.conn != nil {
			s.conn.Close()
		}
	})
	return s
}

// background runs a part of the script while the test is in a verb.
func (s *server) background(script func()) (wait func()) {
	finished := make(chan struct{})
	go func() { defer close(finished); script() }()
	return func() { <-finished }
}

func (s *server) accept() {
	conn, err := s.listener.AcceptUnix()
	if err != nil {
		s.t.Error(err)
		return
	}
	s.conn, s.lines = conn, bufio.NewScanner(conn)
}

func (s *server) say(lines ...string) {
	if len(lines) == 0 {
		return
	}
	if _, err := s.conn.Write([]byte(strings.Join(lines, "\n") + "\n")); err != nil {
		s.t.Errorf("say: %v", err)
	}
}

type heard struct {
	Execute   string
	ExecOOB   string `json:"exec-oob"`
	Arguments json.RawMessage
	ID        *uint64
}

// hear reads one command.
func (s *server) hear() heard {
	var h heard
	if !s.lines.Scan() {
		s.t.Errorf("hear: the client hung up: %v", s.lines.Err())
		return h
	}
	if err := json.Unmarshal(s.lines.Bytes(), &h); err != nil {
		s.t.Errorf("hear %s: %v", s.lines.Bytes(), err)
	}
	return h
}

// answer replies with the command's id.
func (s *server) answer(h heard, reply string) {
	if h.ID != nil {
		reply = fmt.Sprintf(`%s,"id":%d}`, strings.TrimSuffix(reply, "}"), *h.ID)
	}
	s.say(reply)
}

func (s *server) handshake() {
	s.accept()
	s.say(greeting)
	h := s.hear()
	if h.Execute != "qmp_capabilities" {
		s.t.Errorf("handshake: heard %+v", h)
	}
	s.answer(h, done)
}

func event(name string, at time.Time) string {
	return fmt.Sprintf(`{"timestamp":{"seconds":%d,"microseconds":%d},"event":%q,"data":{"n":1}}`,
		at.Unix(), at.Nanosecond()/1000, name)
}

// limited gives each test a context that ends long before the test binary's.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// connect gives a client and its server after the handshake.
func connect(t *testing.T) (*Client, *server) {
	t.Helper()
	s := newServer(t)
	wait := s.background(s.handshake)
	c, err := Dial(limited(t), s.path, nil)
	wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, s
}

func next(t *testing.T, s *Subscription) Event {
	t.Helper()
	select {
	case e, ok := <-s.C():
		if !ok {
			t.Fatalf("the subscription ended: %v", s.Err())
		}
		return e
	case <-time.After(2 * time.Minute):
		t.Fatal("no event")
	}
	return Event{}
}

func awaitDone(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("still not done")
	}
}
