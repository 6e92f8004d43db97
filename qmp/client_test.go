package qmp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDialWaitsForQEMUToStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qmp")
	result := make(chan error, 1)
	ctx := limited(t)
	go func() {
		c, err := Dial(ctx, path, nil)
		if err == nil {
			err = c.Close()
		}
		result <- err
	}()
	// First a socket that nobody serves, then one that hangs up, then QEMU.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dead.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	dead.SetUnlinkOnClose(false)
	dead.Close()
	os.Remove(path)
	s := &server{t: t, path: path}
	if s.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	s.handshake()
	defer s.conn.Close()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := Dial(ctx, path, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path) {
		t.Errorf("no socket: %v", err)
	}
	s := newServer(t) // connects, never greets
	ctx, cancel = context.WithCancel(t.Context())
	wait := s.background(func() { s.accept(); cancel() })
	_, err = Dial(ctx, s.path, nil)
	wait()
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), s.path) {
		t.Errorf("no greeting: %v", err)
	}
}

func TestDialRefusesWhatIsNoQMP(t *testing.T) {
	for _, line := range []string{"SSH-2.0-x", "{}", "[]", `{"return":{}}`, "", `{"QMP":7}`} {
		s := newServer(t)
		wait := s.background(func() { s.accept(); s.say(line) })
		c, err := Dial(limited(t), s.path, nil)
		wait()
		if err == nil {
			c.Close()
			t.Errorf("%q: connected", line)
		}
	}
	s := newServer(t)
	wait := s.background(func() {
		s.accept()
		s.say(greeting)
		s.answer(s.hear(), `{"error":{"class":"GenericError","desc":"no"}}`)
	})
	_, err := Dial(limited(t), s.path, nil)
	wait()
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Error(err)
	}
}

func TestEventsInTheMiddleOfACommand(t *testing.T) {
	c, s := connect(t)
	events := c.Events()
	at := time.Unix(1700000000, 123456000)
	wait := s.background(func() {
		h := s.hear()
		s.say(event("STOP", at), event("RESUME", at.Add(2*time.Millisecond)))
		s.answer(h, `{"return":{"status":"running","running":true}}`)
		s.say(event("MIGRATION", at))
	})
	if st, err := c.QueryStatus(limited(t)); err != nil || !st.Running {
		t.Errorf("%+v, %v", st, err)
	}
	wait()
	stop, resume, migration := next(t, events), next(t, events), next(t, events)
	if stop.Name != "STOP" || resume.Name != "RESUME" || migration.Name != "MIGRATION" {
		t.Errorf("%v %v %v", stop, resume, migration)
	}
	if d := resume.QEMUTime.Sub(stop.QEMUTime); d != 2*time.Millisecond || !stop.QEMUTime.Equal(at) {
		t.Errorf("QEMU's time: %v, %v", stop.QEMUTime, d)
	}
	if time.Since(stop.Received) > time.Minute || stop.Data["n"] != float64(1) {
		t.Errorf("%+v", stop)
	}
}

func TestGarbageIsPassedOver(t *testing.T) {
	c, s := connect(t)
	events := c.Events()
	wait := s.background(func() {
		h := s.hear()
		s.say("garbage", "{}", `{"return":{},"id":999}`, `{"error":{"class":"x","desc":"not ours"},"id":998}`, `{"event":7}`, "\x00\xff")
		s.answer(h, done)
		s.say(event("RESUME", time.Now()))
	})
	if err := c.Cont(limited(t)); err != nil {
		t.Error(err)
	}
	wait()
	if e := next(t, events); e.Name != "RESUME" {
		t.Error(e)
	}
	s.conn.Write([]byte(strings.Repeat("garbage\n", maxGarbage)))
	awaitDone(t, c.Done())
	if !errors.Is(c.Err(), ErrEnded) {
		t.Error(c.Err())
	}
}

func TestRepliesAreLongButNotEndless(t *testing.T) {
	c, s := connect(t)
	const long = 1 << 20
	wait := s.background(func() {
		s.answer(s.hear(), fmt.Sprintf(`{"return":{"status":%q}}`, strings.Repeat("x", long)))
	})
	if st, err := c.QueryStatus(limited(t)); err != nil || len(st.Status) != long {
		t.Errorf("%d bytes, %v", len(st.Status), err)
	}
	wait()
	wait = s.background(func() {
		for b := []byte(strings.Repeat("x", 1<<16)); ; {
			if _, err := s.conn.Write(b); err != nil {
				return
			}
		}
	})
	awaitDone(t, c.Done())
	wait()
	if c.Err() == nil || !strings.Contains(c.Err().Error(), "a line of more than") {
		t.Error(c.Err())
	}
}

func TestACommandThatIsNeverAnswered(t *testing.T) {
	c, s := connect(t)
	ctx, cancel := context.WithCancel(limited(t))
	var first heard
	wait := s.background(func() { first = s.hear(); cancel() })
	err := c.Migrate(ctx, "unix:/x")
	wait()
	if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// The next one is not sent behind it, and says why.
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err = c.Cont(ctx)
	if !errors.Is(err, ErrNotSent) || !strings.Contains(err.Error(), "has not answered migrate") {
		t.Fatal(err)
	}
	// Once QEMU answers, commands pass again, each with its own reply.
	s.answer(first, `{"error":{"class":"GenericError","desc":"late"}}`)
	wait = s.background(func() {
		h := s.hear()
		if h.Execute != "query-status" {
			t.Errorf("heard %s", h.Execute)
		}
		s.answer(h, `{"return":{"status":"paused"}}`)
	})
	if st, err := c.QueryStatus(limited(t)); err != nil || st.Status != StatePaused {
		t.Errorf("%+v, %v", st, err)
	}
	wait()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Stop(ended); !errors.Is(err, ErrNotSent) {
		t.Error(err)
	}
}

func TestCloseFreesAPendingCommand(t *testing.T) {
	c, s := connect(t)
	events := c.Events()
	wait := s.background(func() { s.hear(); c.Close() })
	if err := c.Stop(limited(t)); !errors.Is(err, ErrOutcomeUnknown) {
		t.Error(err)
	}
	wait()
	awaitDone(t, events.Done())
	if !errors.Is(events.Err(), ErrClosed) || !errors.Is(c.Err(), ErrClosed) {
		t.Error(events.Err(), c.Err())
	}
	if err := c.Stop(limited(t)); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrNotSent) {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestQEMUDiesInTheMiddleOfAReply(t *testing.T) {
	for _, how := range []string{"cut", "hang up", "reset"} {
		t.Run(how, func(t *testing.T) {
			c, s := connect(t)
			events := c.Events()
			wait := s.background(func() {
				switch how {
				case "cut":
					s.hear()
					s.conn.Write([]byte(`{"return": {"stat`))
				case "hang up":
					s.hear()
				case "reset": // closing with something unread resets
					bufio.NewReader(s.conn).ReadByte()
					c.monitor.(*socket).conn.Write([]byte("unread\n"))
				}
				s.conn.Close()
			})
			_, err := c.QueryStatus(limited(t))
			wait()
			if !errors.Is(err, ErrEnded) || !errors.Is(err, ErrOutcomeUnknown) || !strings.Contains(err.Error(), s.path) {
				t.Error(err)
			}
			awaitDone(t, events.Done())
			if !errors.Is(events.Err(), ErrEnded) || !errors.Is(c.Err(), ErrEnded) {
				t.Error(events.Err(), c.Err())
			}
			late := c.Events()
			awaitDone(t, late.Done())
			if !errors.Is(late.Err(), ErrEnded) {
				t.Error(late.Err())
			}
		})
	}
}

func TestQuitWithoutAnAnswerIsSuccess(t *testing.T) {
	c, s := connect(t)
	wait := s.background(func() { s.hear(); s.conn.Close() })
	if err := c.Quit(limited(t)); err != nil {
		t.Error(err)
	}
	wait()
}

func TestASlowSubscriberLosesTheOldest(t *testing.T) {
	c, s := connect(t)
	slow, fast := c.Events(), c.Events()
	const more = 10
	for i := range queueLength + more {
		s.say(event(fmt.Sprint(i), time.Now()))
		if e := next(t, fast); e.Name != fmt.Sprint(i) {
			t.Fatalf("event %s, want %d", e.Name, i)
		}
	}
	// fast has seen the last one, and slow is told within the same publish.
	s.say(event("END", time.Now()))
	next(t, fast)
	c.Events().Close()
	if e := next(t, slow); slow.Dropped() != more+1 || e.Name != fmt.Sprint(more+1) {
		t.Errorf("dropped %d, first %s", slow.Dropped(), e.Name)
	}
	if n := slow.Drain(); n != queueLength-1 {
		t.Errorf("drained %d", n)
	}
	slow.Close()
	slow.Close()
	if _, ok := <-slow.C(); ok || slow.Err() != nil || slow.Drain() != 0 {
		t.Error("closed, yet it lives")
	}
	s.say(event("AFTER", time.Now()))
	next(t, fast)
}

// BenchmarkEvent measures from QEMU's write to the subscriber.
func BenchmarkEvent(b *testing.B) {
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		far.Write([]byte(greeting + "\n"))
		bufio.NewReader(far).ReadString('\n')
		far.Write([]byte(done + "\n"))
	}()
	c, err := New(b.Context(), newSocket(near, "pipe", false, nil), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	events := c.Events()
	line := []byte(event("RESUME", time.Now()) + "\n")
	for b.Loop() {
		far.Write(line)
		<-events.C()
	}
}
