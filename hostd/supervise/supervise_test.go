package supervise

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// supervisor is one that runs in this process.
type supervisor struct {
	t       *testing.T
	o       Options
	arbiter *falseArbiter
	end     func()
}

const (
	noGrace  = time.Millisecond
	longer   = time.Hour
	farAway  = time.Minute
	briefly  = 100 * time.Millisecond
	machine1 = "nat"
)

func start(t *testing.T, grace, silence time.Duration, r Record) *supervisor {
	t.Helper()
	a := &falseArbiter{record: r}
	s := &supervisor{t: t, arbiter: a, o: Options{Socket: filepath.Join(t.TempDir(), "supervise"), Host: "a",
		Arbiter: a, Grace: grace, Silence: silence}}
	s.run()
	return s
}

// run until end, or the test's end.
func (s *supervisor) run() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, s.o) }()
	over := false
	s.end = func() {
		if over {
			return
		}
		over = true
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	}
	s.t.Cleanup(s.end)
	until(s.t, "the supervisor listens", func() bool {
		info, err := os.Stat(s.o.Socket)
		return err == nil && info.Mode().Perm() == 0o600
	})
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (s *supervisor) dial() *Client {
	s.t.Helper()
	c, err := Dial(limited(s.t), s.o.Socket)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// daemon is a client that watches q, whose monitor is open.
func (s *supervisor) daemon(q *falseQEMU) *Client {
	s.t.Helper()
	c := s.dial()
	s.watch(c, q)
	return c
}

func (s *supervisor) watch(c *Client, q *falseQEMU) {
	s.t.Helper()
	if err := c.Watch(limited(s.t), Watched{Machine: machine1, Pid: q.pid(), Monitor: q.path}); err != nil {
		s.t.Fatal(err)
	}
	s.connected(c)
}

func (s *supervisor) connected(c *Client) {
	s.t.Helper()
	until(s.t, "the monitor is open", func() bool {
		list, err := c.List(limited(s.t))
		return err == nil && len(list) == 1 && list[0].Connected
	})
}

// raw is a daemon's connection without the Client: it never beats.
func (s *supervisor) raw() *wire {
	s.t.Helper()
	conn, err := net.Dial("unix", s.o.Socket)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	w := newWire(conn)
	s.hear(w, `"greeting":{"version":1,`)
	return w
}

func (s *supervisor) hear(w *wire, want string) {
	s.t.Helper()
	line, err := w.next(20 * time.Second)
	if err != nil || !strings.Contains(string(line), want) {
		s.t.Fatalf("heard %q (%v), want %q in it", line, err, want)
	}
}

func (s *supervisor) say(w *wire, line string) {
	s.t.Helper()
	if _, err := w.conn.Write([]byte(line + "\n")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *supervisor) watchRaw(w *wire, q *falseQEMU) {
	s.t.Helper()
	if err := w.send(request{ID: 1, Op: opWatch, Machine: machine1, Pid: q.pid(), Monitor: q.path}); err != nil {
		s.t.Fatal(err)
	}
	s.hear(w, `{"id":1,"ok":true}`)
	until(s.t, "the monitor is open", func() bool { return q.count("qmp_capabilities") == 1 })
}

var (
	ours    = Record{Generation: 7, Voice: "a"}
	paired  = Record{Generation: 7, Voice: "a", Standby: "b"}
	theirs  = Record{Generation: 8, Voice: "b"}
	nobodys = Record{Generation: 8}
)

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name   string
		record Record
		guest  guestState
		want   action
	}{
		{"no record", Record{}, stuck, wait},
		{"ours, alone, stuck", ours, stuck, free},
		{"ours, alone, silent", ours, unknown, free},
		{"ours, alone, runs", ours, loose, wait},
		{"ours, standby, stuck", paired, stuck, claim},
		{"ours, standby, silent", paired, unknown, claim},
		{"ours, standby, runs", paired, loose, wait},
		{"theirs, stuck", theirs, stuck, kill},
		{"theirs, silent", theirs, unknown, kill},
		{"theirs, runs", theirs, loose, kill},
		{"theirs, we are the standby", Record{Generation: 7, Voice: "b", Standby: "a"}, loose, kill},
		{"nobody's, stuck", nobodys, stuck, kill},
		{"nobody's, runs", nobodys, loose, kill},
	} {
		if got := decide(c.record, "a", c.guest); got != c.want {
			t.Errorf("%s: action %d, want %d", c.name, got, c.want)
		}
	}
}

func TestView(t *testing.T) {
	for _, c := range []struct {
		view view
		want guestState
	}{
		{view{}, unknown},
		{view{"colo", "colo"}, stuck},
		{view{"colo", "running"}, stuck},
		{view{"device", "finish-migrate"}, stuck},
		{view{"failed", "postmigrate"}, stuck},
		{view{"none", "paused"}, stuck},
		{view{"none", "running"}, loose},
		{view{"none", "inmigrate"}, loose},
		{view{"active", "running"}, loose},
	} {
		if got := c.view.state(); got != c.want {
			t.Errorf("%v: state %d, want %d", c.view, got, c.want)
		}
	}
}

func TestDaemonDies(t *testing.T) {
	t.Run("ours", func(t *testing.T) {
		q := newFalseQEMU(t, "colo", "colo")
		s := start(t, noGrace, farAway, ours)
		s.daemon(q).Close()
		until(t, "the guest runs", q.runs)
		if q.count("yank") != 0 || s.arbiter.claimed() != 0 || !q.alive() {
			t.Errorf("too much was done: %v", q.heard)
		}
	})
	t.Run("theirs", func(t *testing.T) {
		q := newFalseQEMU(t, "colo", "colo")
		s := start(t, noGrace, farAway, theirs)
		s.daemon(q).Close()
		<-q.exited
		c := s.dial()
		if list, err := c.List(limited(t)); err != nil || len(list) != 0 {
			until(t, "QEMU is forgotten", func() bool { list, err = c.List(limited(t)); return err == nil && len(list) == 0 })
		}
		if q.count("x-colo-lost-heartbeat") != 0 {
			t.Error("a guest without the voice was freed")
		}
	})
	t.Run("nobody's, and QEMU hangs", func(t *testing.T) {
		q := newFalseQEMU(t, "colo", "colo")
		s := start(t, noGrace, farAway, nobodys)
		c := s.daemon(q)
		q.hang()
		c.Close()
		<-q.exited
	})
	t.Run("arbiter silent, then ours", func(t *testing.T) {
		q := newFalseQEMU(t, "colo", "colo")
		s := start(t, noGrace, farAway, ours)
		s.arbiter.set(ours, true)
		s.daemon(q).Close()
		until(t, "it is asked again and again", func() bool { return s.arbiter.questions() > 2 })
		if q.runs() || !q.alive() {
			t.Fatal("something was done without the arbiter")
		}
		s.arbiter.set(ours, false)
		until(t, "the guest runs", q.runs)
	})
	t.Run("standby named, claim won", func(t *testing.T) {
		q := newFalseQEMU(t, "colo", "colo")
		s := start(t, noGrace, farAway, paired)
		s.daemon(q).Close()
		until(t, "the guest runs", q.runs)
		if s.arbiter.claimed() != 1 {
			t.Errorf("%d claims", s.arbiter.claimed())
		}
	})
	t.Run("standby named, claim lost", func(t *testing.T) {
		q := newFalseQEMU(t, "colo", "colo")
		s := start(t, noGrace, farAway, paired)
		s.arbiter.onClaim = func(a *falseArbiter) { a.record = theirs }
		s.daemon(q).Close()
		<-q.exited
		if q.count("x-colo-lost-heartbeat") != 0 {
			t.Error("a guest without the voice was freed")
		}
	})
	t.Run("standby named, the claim's answer lost", func(t *testing.T) {
		q := newFalseQEMU(t, "colo", "colo")
		s := start(t, noGrace, farAway, paired)
		s.arbiter.onClaim = func(a *falseArbiter) { a.record, a.silent = Record{Generation: 8, Voice: "a"}, true }
		s.daemon(q).Close()
		until(t, "it is asked again", func() bool { return s.arbiter.claimed() == 1 && s.arbiter.questions() > 2 })
		if q.runs() {
			t.Fatal("the guest was freed without an answer")
		}
		s.arbiter.set(Record{Generation: 8, Voice: "a"}, false)
		until(t, "the guest runs", q.runs)
	})
	t.Run("in the first copy", func(t *testing.T) {
		q := newFalseQEMU(t, "device", "finish-migrate")
		s := start(t, noGrace, farAway, ours)
		s.daemon(q).Close()
		until(t, "the guest runs", q.runs)
		if q.count("migrate_cancel") != 0 || q.count("x-colo-lost-heartbeat") != 0 {
			t.Errorf("QEMU heard %v", q.heard)
		}
	})
	t.Run("the copy ended with the guest stopped", func(t *testing.T) {
		q := newFalseQEMU(t, "failed", "postmigrate")
		s := start(t, noGrace, farAway, ours)
		s.daemon(q).Close()
		until(t, "the guest runs", q.runs)
	})
	t.Run("QEMU hangs on us", func(t *testing.T) {
		q := newFalseQEMU(t, "colo", "colo")
		s := start(t, noGrace, farAway, ours)
		c := s.daemon(q)
		q.hang()
		c.Close()
		until(t, "the guest runs", q.runs)
		if q.count("yank") == 0 {
			t.Error("it was not yanked")
		}
	})
	t.Run("nothing to free, then another host takes over", func(t *testing.T) {
		q := newFalseQEMU(t, "none", "running")
		s := start(t, noGrace, farAway, paired)
		s.daemon(q).Close()
		until(t, "the arbiter was asked", func() bool { return s.arbiter.questions() > 0 })
		if s.arbiter.claimed() != 0 {
			t.Error("it claimed for nothing")
		}
		s.arbiter.set(theirs, false)
		<-q.exited
	})
	t.Run("on purpose", func(t *testing.T) {
		q := newFalseQEMU(t, "colo", "colo")
		s := start(t, noGrace, farAway, ours)
		c := s.daemon(q)
		if err := c.Leave(limited(t)); err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		until(t, "the guest runs", q.runs)
	})
}

func TestNothingIsDoneWhileADaemonBeats(t *testing.T) {
	q := newFalseQEMU(t, "colo", "colo")
	s := start(t, noGrace, briefly, theirs)
	c := s.daemon(q)
	q.set("colo", "running")
	began := time.Now()
	until(t, "many silences have passed", func() bool { return time.Since(began) > 10*briefly })
	if s.arbiter.questions() != 0 || !q.alive() || c.Err() != nil {
		t.Errorf("%d questions, alive %v, %v", s.arbiter.questions(), q.alive(), c.Err())
	}
}

func TestSilentDaemonIsLost(t *testing.T) {
	q := newFalseQEMU(t, "colo", "colo")
	s := start(t, noGrace, briefly, ours)
	w := s.raw()
	s.watchRaw(w, q)
	until(t, "the guest runs", q.runs)
	s.say(w, `{"id":2,"op":"beat"}`)
	s.hear(w, `{"id":2,"ok":true}`)
	asked := s.arbiter.questions()
	s.say(w, `{"id":3,"op":"list"}`)
	s.hear(w, `"machine":"nat"`)
	if s.arbiter.questions() != asked {
		t.Error("it went on although the daemon beats")
	}
}

func TestDaemonComesBackBeforeTheGrace(t *testing.T) {
	q := newFalseQEMU(t, "colo", "colo")
	a := &falseArbiter{record: theirs}
	s := newServer(t, a, longer)
	c := s.enterNew()
	c.watch(t, s, q)
	s.absent(c.session, "it is silent")
	if s.rescue == nil {
		t.Fatal("nothing was begun")
	}
	if !s.present(c.session) || s.rescue != nil {
		t.Error("the daemon's return did not end it")
	}
	s.absent(c.session, "it is silent")
	next := s.enterNew()
	if s.rescue != nil {
		t.Error("a new daemon did not end it")
	}
	s.absent(c.session, "it is silent")
	s.exit(c.session)
	if s.present(c.session) || s.rescue != nil {
		t.Error("the old connection still counts")
	}
	s.exit(next.session)
	if s.rescue == nil || a.questions() != 0 || !q.alive() {
		t.Error("the new daemon's end, or something done in the grace")
	}
}

// bare is a server whose connections the test plays.
type bare struct {
	*server
	t *testing.T
	// logged may be read when no rescue runs.
	logged *bytes.Buffer
}

type played struct{ *session }

func newServer(t *testing.T, a Arbiter, grace time.Duration) bare {
	ctx, cancel := context.WithCancel(context.Background())
	logged := &bytes.Buffer{}
	log := hclog.New(&hclog.LoggerOptions{Output: logged})
	s := bare{&server{Options: Options{Host: "a", Arbiter: a, Grace: grace, Silence: time.Minute, Log: log}, ctx: ctx,
		machines: map[string]*machine{}}, t, logged}
	t.Cleanup(func() { cancel(); s.shut(); s.tasks.Wait() })
	return s
}

func (s bare) enterNew() played {
	ours, theirs := net.Pipe()
	s.t.Cleanup(func() { theirs.Close() })
	c := &session{wire: newWire(ours), server: s.server}
	if !s.present(c) {
		s.t.Error("replaced by nobody")
	}
	return played{c}
}

func (c played) watch(t *testing.T, s bare, q *falseQEMU) {
	t.Helper()
	if r := s.do(request{Op: opWatch, Machine: machine1, Pid: q.pid(), Monitor: q.path}); r.Error != "" {
		t.Fatal(r.Error)
	}
}

func TestReturnStopsARescueThatIsAsking(t *testing.T) {
	q := newFalseQEMU(t, "colo", "colo")
	asking := make(chan struct{}, 100)
	s := newServer(t, blockingArbiter{asking}, noGrace)
	c := s.enterNew()
	c.watch(t, s, q)
	s.absent(c.session, "it is silent")
	<-asking
	if !s.present(c.session) {
		t.Error("replaced by nobody")
	}
	if strings.Contains(s.logged.String(), "killed") || !q.alive() || q.runs() {
		t.Errorf("something was done: %s", s.logged)
	}
}

// blockingArbiter answers only when it is asked no more: too late.
type blockingArbiter struct{ asking chan struct{} }

func (b blockingArbiter) Current(ctx context.Context, _ string) (Record, error) {
	b.asking <- struct{}{}
	<-ctx.Done()
	return theirs, nil
}

func (b blockingArbiter) ClaimSolo(context.Context, string, uint64) (Record, bool, error) {
	return Record{}, false, errors.New("nobody should ask")
}

func TestNewDaemonReplacesTheOld(t *testing.T) {
	q := newFalseQEMU(t, "colo", "colo")
	s := start(t, noGrace, farAway, theirs)
	old := s.daemon(q)
	fresh := s.daemon(q)
	<-old.Done()
	if old.Err() == nil {
		t.Error("the old daemon is not told why")
	}
	if list, err := fresh.List(limited(t)); err != nil || len(list) != 1 || list[0].Pid != q.pid() {
		t.Errorf("list %v, %v", list, err)
	}
	if s.arbiter.questions() != 0 || !q.alive() || q.connections() != 1 {
		t.Error("the change of daemons did something to the machine")
	}
}

func TestSupervisorIsRestarted(t *testing.T) {
	q := newFalseQEMU(t, "colo", "colo")
	s := start(t, noGrace, farAway, ours)
	c := s.daemon(q)
	s.end()
	<-c.Done()
	if _, ok := <-c.Ended(); ok || c.Err() == nil {
		t.Errorf("the end was not told: %v", c.Err())
	}
	if err := c.Watch(limited(t), Watched{Machine: machine1, Pid: q.pid(), Monitor: q.path}); err == nil {
		t.Error("a supervisor that is gone watches")
	}
	if !q.alive() || q.runs() {
		t.Error("the end of a supervisor did something to the machine")
	}
	s.run()
	again := s.dial()
	if list, err := again.List(limited(t)); err != nil || len(list) != 0 {
		t.Errorf("list %v, %v", list, err)
	}
	s.watch(again, q)
	again.Close()
	until(t, "the guest runs", q.runs)
}

func TestMonitorIsOpenedAgain(t *testing.T) {
	q := newFalseQEMU(t, "colo", "colo")
	s := start(t, noGrace, farAway, ours)
	c := s.daemon(q)
	q.hangUp()
	until(t, "it is opened again", func() bool { return q.connections() == 2 })
	s.connected(c)
	c.Close()
	until(t, "the guest runs", q.runs)
}

func TestQEMUEnds(t *testing.T) {
	q := newFalseQEMU(t, "none", "running")
	s := start(t, noGrace, farAway, ours)
	c := s.daemon(q)
	q.command.Process.Kill()
	if e := <-c.Ended(); e != (Ended{machine1, q.pid()}) {
		t.Errorf("told %v", e)
	}
	<-q.exited
	if list, err := c.List(limited(t)); err != nil || len(list) != 0 {
		t.Errorf("list %v, %v", list, err)
	}
	if err := c.Watch(limited(t), Watched{Machine: machine1, Pid: q.pid(), Monitor: q.path}); err == nil {
		t.Error("a process that is gone is watched")
	}
}

func TestOperations(t *testing.T) {
	q, other := newFalseQEMU(t, "colo", "colo"), newFalseQEMU(t, "colo", "colo")
	s := start(t, noGrace, farAway, theirs)
	c := s.daemon(q)
	if c.Version() != 1 || c.Pid() != os.Getpid() {
		t.Errorf("greeting %d of %d", c.Version(), c.Pid())
	}
	q.hang()
	if err := c.Yank(limited(t), machine1); err != nil || q.count("yank") != 1 {
		t.Errorf("yank: %v, %d", err, q.count("yank"))
	}
	if c.Yank(limited(t), "other") == nil {
		t.Error("a machine that nobody watches is known")
	}
	if err := c.Forget(limited(t), "other"); err != nil {
		t.Errorf("forget what is forgotten: %v", err)
	}
	if c.Watch(limited(t), Watched{Machine: "other", Pid: 1, Monitor: q.path}) == nil || c.Watch(limited(t), Watched{Machine: "other", Pid: os.Getpid(), Monitor: q.path}) == nil {
		t.Error("init, or the supervisor, is a QEMU")
	}
	if c.Watch(limited(t), Watched{Machine: "", Pid: q.pid(), Monitor: q.path}) == nil || c.Watch(limited(t), Watched{Machine: "other", Pid: q.pid(), Monitor: ""}) == nil {
		t.Error("a watch of nothing")
	}
	s.watch(c, other) // under the same name
	if list, err := c.List(limited(t)); err != nil || len(list) != 1 || list[0].Pid != other.pid() {
		t.Errorf("list %v, %v", list, err)
	}
	if err := c.Forget(limited(t), machine1); err != nil {
		t.Error(err)
	}
	c.Close()
	if err := c.Forget(limited(t), machine1); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	s.end()
	if !q.alive() || !other.alive() || s.arbiter.questions() != 0 {
		t.Error("a machine that was forgotten was touched")
	}
	if o := s.o; Run(context.Background(), Options{Socket: o.Socket}) == nil {
		t.Error("options without a host")
	}
}

func TestOneSupervisorPerSocket(t *testing.T) {
	s := start(t, noGrace, farAway, ours)
	if err := Run(limited(t), s.o); err == nil {
		t.Error("a second one serves the same socket")
	}
	c := s.dial()
	if err := Run(limited(t), s.o); err == nil {
		t.Error("a second one serves the same socket")
	}
	if list, err := c.List(limited(t)); err != nil || len(list) != 0 {
		t.Errorf("the daemon was disturbed: %v, %v", list, err)
	}
}

func TestGarbage(t *testing.T) {
	q := newFalseQEMU(t, "colo", "colo")
	s := start(t, noGrace, farAway, ours)
	w := s.raw()
	s.watchRaw(w, q)
	s.say(w, `{"id":2,"op":"dance","machine":{}}`)
	s.hear(w, "no operation")
	s.say(w, `{"id":3,"op":"dance","tempo":{"bpm":120}}`)
	s.hear(w, `"id":3,"error":"this supervisor (version 1) knows no operation \"dance\"`)
	s.say(w, `{"id":4,"op":"beat","mood":"fine"}`)
	s.hear(w, `{"id":4,"ok":true}`)
	for range maxGarbage - 1 {
		s.say(w, "\x00garbage")
		s.hear(w, "no operation")
	}
	s.say(w, "[]")
	s.hear(w, "no operation")
	if _, err := w.next(20 * time.Second); err == nil {
		t.Error("the connection lives on")
	}
	until(t, "the guest runs", q.runs)

	long := s.raw()
	long.conn.Write([]byte(strings.Repeat("x", 2*maxLine)))
	if _, err := long.next(time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a line without an end: %v", err)
	}
	s.dial()
}

func TestDialNeedsAGreeting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := Dial(limited(t), path); err == nil {
		t.Error("connected to nothing")
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody greets: %v", err)
	}
}

// A line that a time-out has cut goes on with the next call.
func TestLineInPieces(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	w := newWire(a)
	go b.Write([]byte(`{"op":`))
	if _, err := w.next(10 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	go b.Write([]byte("\"beat\"}\n"))
	if line, err := w.next(0); err != nil || string(line) != "{\"op\":\"beat\"}\n" {
		t.Errorf("%q, %v", line, err)
	}
}
