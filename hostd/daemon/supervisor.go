package daemon

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/supervise"
)

const (
	supervisorRetry = 300 * time.Millisecond
	supervisorCall  = 2 * time.Second
	// yankAfter is how long QEMU may take to leave COLO before what it waits
	// for is torn from it.
	yankAfter = 2 * time.Second
	// supervisorComes is how long a supervisor that was started, and lives, may take
	// before it serves. Meanwhile no other one is started.
	supervisorComes = 15 * time.Second
)

// supervisor is the process that holds what must outlive the daemon, as far as
// it can be reached.
type supervisor struct {
	start func() (pid int, err error)

	mu     sync.Mutex
	client *supervise.Client // nil while there is none
}

func (s *supervisor) set(c *supervise.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = c
}

func (s *supervisor) now() *supervise.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// startedSupervisor is one that this daemon has started and not reached yet.
type startedSupervisor struct {
	pid   int
	began uint64
	at    time.Time
}

func (s startedSupervisor) comes(now time.Time) bool {
	return s.pid != 0 && now.Sub(s.at) < supervisorComes && supervise.Lives(s.pid, s.began)
}

// keepSupervisor connects to this host's supervisor, and starts one where there
// is none, until the daemon ends.
func (d *Daemon) keepSupervisor() {
	if d.supervisor.start == nil {
		return
	}
	var started startedSupervisor
	for d.ctx.Err() == nil {
		err := d.attendSupervisor()
		if nobodyListens(err) && d.ctx.Err() == nil && !started.comes(time.Now()) {
			d.log.Debug("no supervisor; starting one", "error", err)
			started = d.startSupervisor()
		}
		select {
		case <-time.After(supervisorRetry):
		case <-d.ctx.Done():
		}
	}
}

// nobodyListens tells a supervisor that is not there from one that does not answer.
func nobodyListens(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

func (d *Daemon) startSupervisor() startedSupervisor {
	pid, err := d.supervisor.start()
	if err != nil {
		d.log.Error("supervisor not started", "error", err)
		return startedSupervisor{}
	}
	began, err := supervise.StartTime(pid)
	if err != nil { // it has ended already
		return startedSupervisor{}
	}
	return startedSupervisor{pid, began, time.Now()}
}

// attendSupervisor stays connected as long as the supervisor lives.
func (d *Daemon) attendSupervisor() error {
	ctx, cancel := context.WithTimeout(d.ctx, supervisorCall)
	defer cancel()
	c, err := supervise.Dial(ctx, d.config.SupervisorSocket())
	if err != nil {
		return err
	}
	defer c.Close()
	d.supervisor.set(c)
	defer d.supervisor.set(nil)
	for _, g := range d.list() {
		if g.earlier == nil { // else it watches what the last daemon told it to
			g.beWatched()
		}
	}
	for {
		select {
		case <-c.Ended(): // the daemon sees the end of a QEMU by itself
		case <-c.Done():
			return c.Err()
		case <-d.ctx.Done():
			bye, cancel := context.WithTimeout(context.Background(), supervisorCall)
			defer cancel()
			_ = c.Leave(bye) // the end of the connection says the same
			return nil
		}
	}
}

// beWatched tells the supervisor of the guest. A supervisor that is not there
// now hears of it when it is.
func (g *guest) beWatched() {
	g.withSupervisor(func(ctx context.Context, c *supervise.Client) error {
		pid := g.qemu.Pid()
		started, err := supervise.StartTime(pid)
		if g.ended() || errors.Is(err, fs.ErrNotExist) { // it is not its number any more
			return nil
		}
		if err != nil {
			return err
		}
		return c.Watch(ctx, supervise.Watched{Machine: g.name, Pid: pid, Monitor: g.qemu.UrgentSocket(), Started: started, Generation: g.state.Generation()})
	})
}

func (g *guest) notWatched() {
	g.withSupervisor(func(ctx context.Context, c *supervise.Client) error { return c.Forget(ctx, g.name) })
}

// yank tears QEMU from what it waits for.
func (g *guest) yank() {
	g.log.Warn("QEMU hangs on its way out of COLO; yanking its connection")
	g.withSupervisor(func(ctx context.Context, c *supervise.Client) error { return c.Yank(ctx, g.name) })
}

func (g *guest) withSupervisor(call func(context.Context, *supervise.Client) error) {
	c := g.d.supervisor.now()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), supervisorCall)
	defer cancel()
	if err := call(ctx, c); err != nil {
		g.log.Warn("supervisor", "error", err)
	}
}
