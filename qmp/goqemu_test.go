package qmp

import (
	"errors"
	"testing"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// TestOverGoQEMUsSocketMonitor shows that its Monitor, too, can be used.
func TestOverGoQEMUsSocketMonitor(t *testing.T) {
	s := newServer(t)
	monitor, err := goqemu.NewSocketMonitor("unix", s.path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	wait := s.background(s.handshake)
	c, err := New(limited(t), monitor, nil)
	wait()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	events := c.Events()
	wait = s.background(func() {
		// The command has no newline: it ends with its object.
		b := make([]byte, 256)
		n, _ := s.conn.Read(b)
		if got := string(b[:n]); got != `{"execute":"query-status"}` {
			t.Errorf("heard %s", got)
		}
		s.say(`{"return":{"status":"paused","running":false}}`)
	})
	if st, err := c.QueryStatus(limited(t)); err != nil || st.Status != StatePaused {
		t.Errorf("%+v, %v", st, err)
	}
	wait()
	s.say(event("RESUME", time.Now()))
	if e := next(t, events); e.Name != "RESUME" {
		t.Error(e)
	}
	s.conn.Close()
	awaitDone(t, c.Done())
	if err := c.Stop(limited(t)); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}
