package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// maxGarbage is how many lines that are no operation a connection may send.
const maxGarbage = 16

// Options of a supervisor.
type Options struct {
	// Socket is the path where the daemon connects.
	Socket string
	// Host is this host's name in the arbiter's records.
	Host    string
	Arbiter Arbiter
	// Grace is how long after the loss of the daemon nothing is done, so that
	// the standby's takeover comes first.
	Grace time.Duration
	// Silence is how long a daemon may say nothing before it counts as lost.
	Silence time.Duration
	// Entered is called when a daemon has come, before its first operation is
	// done: its configuration may be another than the last one's. nil: nobody
	// wants to know.
	Entered func()
	// Log of nil is silent.
	Log hclog.Logger
}

// Run serves the daemon until the context ends. QEMUs live on then, unwatched.
// It fails if another supervisor serves the same socket.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	if o.Host == "" || o.Arbiter == nil || o.Grace <= 0 || o.Silence <= 0 {
		return errors.New("start the supervisor: it needs a host, an arbiter, and a grace and a silence above 0")
	}
	l, err := listen(o.Socket)
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &server{Options: o, ctx: ctx, machines: map[string]*machine{}}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	o.Log.Info("supervising", "host", o.Host, "socket", o.Socket)
	err = s.accept(l)
	cancel()
	l.Close()
	s.shut()
	s.tasks.Wait()
	return err
}

func listen(path string) (*net.UnixListener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("another process serves %s; end it first", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket that an earlier supervisor left: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

type server struct {
	Options
	ctx   context.Context
	tasks sync.WaitGroup

	mu       sync.Mutex
	current  *session // the daemon's connection; nil if there is none
	machines map[string]*machine
	rescue   *rescue // nil while a daemon beats
}

// rescue is the work on all machines while there is no daemon.
type rescue struct {
	cancel context.CancelFunc
	work   sync.WaitGroup
}

func (s *server) accept(l *net.UnixListener) error {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if s.ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for the daemon on %s: %w", s.Socket, err)
		}
		if err := ownUser(conn); err != nil {
			s.Log.Warn("connection refused", "error", err)
			conn.Close()
			continue
		}
		c := &session{wire: newWire(conn), server: s}
		s.tasks.Go(c.serve)
	}
}

// ownUser guards against a socket whose mode somebody has changed.
func ownUser(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("process %d of user %d may not command this supervisor", peer.Pid, peer.Uid)
	}
	return nil
}

// shut ends everything but QEMU.
func (s *server) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopRescue()
	for _, m := range s.machines {
		m.stop()
	}
}

// present notes that the daemon of c lives. With its first operation c becomes
// the daemon's connection, and whoever was before is hung up on. It is false
// if c was replaced. What was being done without a daemon has ended when it
// returns.
func (s *server) present(c *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != c {
		if c.entered {
			return false
		}
		if s.current != nil {
			s.Log.Warn("the daemon's connection is replaced by a new one")
			s.current.conn.Close()
		}
		s.current, c.entered = c, true
	}
	s.stopRescue()
	return true
}

// absent notes that the daemon of c is lost. It is false if c is not the
// daemon's connection.
func (s *server) absent(c *session, why string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != c {
		return false
	}
	s.startRescue(why)
	return true
}

func (s *server) exit(c *session) {
	s.absent(c, "its connection ended")
	c.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == c {
		s.current = nil
	}
}

// startRescue needs the lock. It does nothing where a rescue runs already.
func (s *server) startRescue(why string) {
	if s.ctx.Err() != nil || s.rescue != nil {
		return
	}
	s.Log.Warn("the daemon is lost", "why", why, "machines", len(s.machines), "grace", s.Grace)
	ctx, cancel := context.WithCancel(s.ctx)
	s.rescue = &rescue{cancel: cancel}
	for _, m := range s.machines {
		s.rescue.work.Go(func() { m.rescue(ctx, s.Grace) })
	}
}

// stopRescue needs the lock. No rescue takes it.
func (s *server) stopRescue() {
	if s.rescue == nil {
		return
	}
	s.rescue.cancel()
	s.rescue.work.Wait()
	s.rescue = nil
}

// watch starts to watch a machine, or goes on.
func (s *server) watch(r request) error {
	if r.Machine == "" || r.Monitor == "" {
		return errors.New("watch needs a machine and a monitor")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.machines[r.Machine]; m != nil {
		if m.process.pid == r.Pid && m.monitor.path == r.Monitor && !m.hasEnded() {
			m.knows(r.Generation)
			return nil
		}
		m.stop()
		delete(s.machines, r.Machine)
	}
	p, err := openSince(r.Pid, r.Started)
	if err != nil {
		return fmt.Errorf("watch machine %s: %w", r.Machine, err)
	}
	s.begin(r, p)
	return nil
}

// begin needs the lock.
func (s *server) begin(r request, p *process) {
	log := s.Log.With("machine", r.Machine, "pid", r.Pid)
	ctx, cancel := context.WithCancel(s.ctx)
	m := &machine{name: r.Machine, host: s.Host, arbiter: s.Arbiter, log: log, process: p,
		monitor: &monitor{path: r.Monitor, log: log.Named("qmp")}, stop: cancel, ended: make(chan struct{})}
	m.knows(r.Generation)
	s.machines[r.Machine] = m
	s.tasks.Go(func() { m.monitor.keep(ctx) })
	s.tasks.Go(func() {
		stop := context.AfterFunc(ctx, p.close)
		err := p.wait()
		if stop() {
			close(m.ended)
			s.forgetEnded(m, err)
		}
		cancel()
		p.close()
	})
	log.Info("machine watched", "monitor", r.Monitor)
}

func (m *machine) hasEnded() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// forgetEnded tells the daemon, if there is one.
func (s *server) forgetEnded(m *machine, err error) {
	m.log.Info("QEMU ended; machine forgotten", "error", err)
	s.mu.Lock()
	c := s.current
	if s.machines[m.name] == m {
		delete(s.machines, m.name)
	}
	s.mu.Unlock()
	if c != nil {
		c.send(response{Ended: &Ended{Machine: m.name, Pid: m.process.pid}})
	}
}

// forget a machine, which may have been forgotten already: its QEMU has ended.
func (s *server) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.machines[name]
	if m == nil {
		return
	}
	m.stop()
	delete(s.machines, name)
	m.log.Info("machine forgotten, as the daemon wants it")
}

func unwatched(name string) error { return fmt.Errorf("no machine %s is watched", name) }

func (s *server) yank(name string) error {
	s.mu.Lock()
	m := s.machines[name]
	s.mu.Unlock()
	if m == nil {
		return unwatched(name)
	}
	m.log.Warn("yanking the migration, as the daemon wants it")
	return m.monitor.yank(s.ctx)
}

func (s *server) list() []Watched {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Watched
	for _, m := range s.machines {
		all = append(all, Watched{Machine: m.name, Pid: m.process.pid, Monitor: m.monitor.path, Connected: m.monitor.get() != nil})
	}
	slices.SortFunc(all, func(a, b Watched) int { return strings.Compare(a.Machine, b.Machine) })
	return all
}

// session is one connection of a daemon.
type session struct {
	*wire
	server *server
	// entered: it is or was the daemon's; guarded by the server's lock.
	entered bool
	// known: it has done an operation; only serve uses it.
	known bool
	// garbage counts lines that were no operation.
	garbage int
}

func (c *session) serve() {
	s := c.server
	stop := context.AfterFunc(s.ctx, func() { c.conn.Close() })
	defer stop()
	defer s.exit(c)
	if c.send(response{Greeting: &greeting{Version: version, Pid: os.Getpid(), Silence: s.Silence.Milliseconds()}}) != nil {
		return
	}
	for {
		line, err := c.next(s.Silence)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if !s.absent(c, "it is silent") {
				return
			}
			line, err = c.next(0)
		}
		if err != nil || !c.handle(line) {
			return
		}
	}
}

// handle a line; false ends the connection. What is no operation is no sign of
// a daemon.
func (c *session) handle(line []byte) bool {
	var r request
	if err := json.Unmarshal(line, &r); err != nil || r.Op == "" {
		c.garbage++
		return c.send(response{Error: "this line is no operation"}) == nil && c.garbage <= maxGarbage
	}
	fresh := !c.known
	if !c.server.present(c) {
		return false
	}
	if c.known = true; fresh && c.server.Entered != nil {
		c.server.Entered()
	}
	answer := c.server.do(r)
	answer.ID, answer.OK = r.ID, answer.Error == ""
	return c.send(answer) == nil && r.Op != opLeave
}

func (s *server) do(r request) response {
	var err error
	switch r.Op {
	case opBeat:
	case opLeave:
		s.Log.Info("the daemon leaves")
	case opList:
		return response{Machines: s.list()}
	case opWatch:
		err = s.watch(r)
	case opForget:
		s.forget(r.Machine)
	case opYank:
		err = s.yank(r.Machine)
	default:
		err = fmt.Errorf("this supervisor (version %d) knows no operation %q", version, r.Op)
	}
	if err != nil {
		return response{Error: err.Error()}
	}
	return response{}
}
