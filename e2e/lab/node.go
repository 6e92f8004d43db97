package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Node is a place where one daemon runs: what a Host and the Witness have in
// common. Its methods may be called concurrently.
type Node struct {
	Name  string
	Space *Space
	// Dir holds the daemon's log and configuration, and StateDir, its disk;
	// RunDir holds its sockets.
	Dir, StateDir, RunDir string

	lab    *Lab
	log    hclog.Logger
	title  string       // of the daemon, in errors
	cables []*Cable     // all that lead here; fixed once the lab is made
	memory []string     // directories that do not outlive the power
	skew   atomic.Int64 // nanoseconds

	mu     sync.Mutex
	daemon *daemon
}

// init fills in what all nodes have alike.
func (n *Node) init(l *Lab, name, title string, space *Space) {
	n.Name, n.Space, n.title = name, space, title
	n.lab, n.log = l, l.log.Named(name)
	n.Dir = filepath.Join(l.Dir, name)
	n.StateDir = filepath.Join(n.Dir, "state")
	n.RunDir = filepath.Join(l.record.dir(), name)
	n.memory = []string{n.RunDir}
}

func (n *Node) makeDirectories() error {
	for _, dir := range append([]string{n.StateDir}, n.memory...) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make host %s: %w", n.Name, err)
		}
	}
	return nil
}

// LogFile is the path of the daemon's log; a restarted daemon appends.
func (n *Node) LogFile() string { return filepath.Join(n.Dir, "hostd.log") }

func (n *Node) configFile() string { return filepath.Join(n.Dir, "hostd.yaml") }

// Skew makes the clock of the daemon run ahead of this machine's by d, or
// behind it if d is negative, from its next start on. Only a daemon that was
// built with the tag "faults" heeds it.
func (n *Node) Skew(d time.Duration) { n.skew.Store(int64(d)) }

// launch starts the daemon with "hostd verb --config FILE", once prepare has
// written that file. NAME=VALUE are added to its environment.
func (n *Node) launch(verb string, env []string, prepare func(config string) error) (*daemon, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.daemon != nil && !n.daemon.ended() {
		return nil, errors.New("it is running")
	}
	config := n.configFile()
	if err := prepare(config); err != nil {
		return nil, err
	}
	d, err := n.spawn(env, verb, "--config", config)
	if err != nil {
		return nil, err
	}
	n.daemon = d
	n.log.Debug("hostd started", "verb", verb, "pid", d.process.PID)
	return d, nil
}

// Daemon is the daemon's process. It fails with os.ErrProcessDone when the
// daemon does not run.
func (n *Node) Daemon() (Process, error) {
	d, err := n.running()
	if err != nil {
		return Process{}, err
	}
	return d.process, nil
}

func (n *Node) running() (*daemon, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.daemon == nil || n.daemon.ended() {
		return nil, fmt.Errorf("%s: %w", n.title, os.ErrProcessDone)
	}
	return n.daemon, nil
}

// Kill the daemon, and nothing else, with SIGKILL. It returns when the daemon
// is gone, and the time just before the signal.
func (n *Node) Kill() (time.Time, error) { return n.finish(unix.SIGKILL) }

// Terminate asks the daemon to end (SIGTERM) and waits until it has.
func (n *Node) Terminate() error {
	_, err := n.finish(unix.SIGTERM)
	return err
}

func (n *Node) finish(s unix.Signal) (time.Time, error) {
	d, err := n.running()
	if err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	if err := d.process.Signal(s); err != nil {
		return at, err
	}
	const patience = 30 * time.Second
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-d.done:
		return at, nil
	case <-timeout.C:
		return at, n.explain(fmt.Errorf("%s did not end within %s of %s", n.title, patience, unix.SignalName(s)))
	}
}

// killIfRunning is Kill for a daemon that may have ended already.
func (n *Node) killIfRunning() error {
	if _, err := n.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// KillAll ends the daemon and everything it started with SIGKILL, as fast as
// signals can be sent, and waits until all are gone. The time is that of the
// first signal. The kernel lives on: it closes the connections to the peers,
// which learn of it at once. See PowerOff for a harder death.
func (n *Node) KillAll() (time.Time, error) {
	var first time.Time
	err := killAll(func() ([]Process, error) {
		ps, err := n.Processes()
		if first.IsZero() {
			first = time.Now()
		}
		return ps, err
	})
	if err != nil {
		return first, fmt.Errorf("kill host %s: %w", n.Name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.daemon != nil {
		<-n.daemon.done
	}
	return first, nil
}

// Processes lists the daemon and everything it started that still runs.
func (n *Node) Processes() ([]Process, error) {
	pids, err := n.Space.Processes()
	if err != nil {
		return nil, err
	}
	var ps []Process
	for _, pid := range pids {
		if !carries(pid, marker+"="+n.lab.Name) {
			continue // a visitor's shell
		}
		if p, err := FindProcess(pid); err == nil {
			ps = append(ps, p)
		}
	}
	return ps, nil
}

// find the process whose command line is as wanted. It fails with
// os.ErrProcessDone when there is none; what names it in the error.
func (n *Node) find(what string, wanted func(args []string) bool) (Process, error) {
	ps, err := n.Processes()
	if err != nil {
		return Process{}, err
	}
	for _, p := range ps {
		if wanted(commandLine(p.PID)) {
			return p, nil
		}
	}
	return Process{}, fmt.Errorf("%s on host %s: %w", what, n.Name, os.ErrProcessDone)
}

// killFound ends the process that find found. It returns when it is gone, and
// the time just before the signal.
func killFound(p Process, err error) (time.Time, error) {
	if err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	if err := p.Signal(unix.SIGKILL); err != nil {
		return at, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return at, p.Wait(ctx)
}

// PowerOff is the death of a whole host: its cables go silent, no connection
// is closed in anybody's sight, its processes end and its memory is lost. The
// time is that of the cut.
func (n *Node) PowerOff() (time.Time, error) {
	at := time.Now()
	for _, c := range n.cables {
		if err := c.Unplug(); err != nil {
			return at, err
		}
	}
	if _, err := n.KillAll(); err != nil {
		return at, err
	}
	var errs []error
	for _, dir := range n.memory {
		errs = append(errs, os.RemoveAll(dir))
	}
	return at, errors.Join(errs...)
}

// powerUp undoes PowerOff, but for the daemon.
func (n *Node) powerUp() error {
	if err := n.makeDirectories(); err != nil {
		return err
	}
	if err := n.removeTaps(); err != nil {
		return err
	}
	for _, c := range n.cables {
		if err := c.Restore(); err != nil {
			return err
		}
	}
	return nil
}

// removeTaps takes away the interfaces that a real kernel would have lost.
func (n *Node) removeTaps() error {
	links, err := n.Space.links.LinkList()
	if err != nil {
		return fmt.Errorf("list the interfaces of host %s: %w", n.Name, err)
	}
	for _, link := range links {
		if link.Type() != "tuntap" {
			continue
		}
		if err := n.Space.links.LinkDel(link); err != nil {
			return fmt.Errorf("remove %s of host %s: %w", link.Attrs().Name, n.Name, err)
		}
	}
	return nil
}

// Usage of the daemon.
func (n *Node) Usage() (Usage, error) {
	p, err := n.Daemon()
	if err != nil {
		return Usage{}, err
	}
	return UsageOf(p)
}
