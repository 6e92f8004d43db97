package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// ReplicaPort is the TCP port at which a host takes epochs from its peer.
const ReplicaPort = 7600

// Host is one host: its namespace, its cables, its daemon and the daemon's
// machines. Its methods may be called concurrently.
type Host struct {
	Name    string
	Address string // on the link
	Space   *Space
	// Cables to the client's segment, the server's segment and the peers.
	In, Out, Link *Cable
	// Dir holds the daemon's log and configuration, and StateDir; RunDir its
	// sockets, RAMDir its machines' RAM.
	Dir, StateDir, RunDir, RAMDir string
	// Config is written out at each Start. Change it only between two runs.
	Config Config

	lab    *Lab
	log    hclog.Logger
	faults atomic.Uint64

	mu      sync.Mutex
	daemon  *daemon
	session *session
	events  eventLog
}

func newHost(l *Lab, name string, space *Space, number int) (*Host, error) {
	h := &Host{
		Name:    name,
		Address: linkAddress(number),
		Space:   space,
		Dir:     filepath.Join(l.Dir, name),
		RunDir:  filepath.Join(l.record.dir(), name),
		RAMDir:  filepath.Join(l.ramDir(), name),
		lab:     l,
		log:     l.log.Named(name),
	}
	h.StateDir = filepath.Join(h.Dir, "state")
	h.Config = defaultConfig(l, h)
	return h, h.makeDirectories()
}

func linkAddress(number int) string { return fmt.Sprintf("10.99.0.%d", number) }

func (h *Host) makeDirectories() error {
	for _, dir := range []string{h.StateDir, h.RunDir, h.RAMDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make host %s: %w", h.Name, err)
		}
	}
	return nil
}

// Socket is the path of the daemon's control socket.
func (h *Host) Socket() string { return filepath.Join(h.RunDir, "hostd.sock") }

// LogFile is the path of the daemon's log; a restarted daemon appends.
func (h *Host) LogFile() string { return filepath.Join(h.Dir, "hostd.log") }

// ConsoleFile is where the console of a machine goes on this host.
func (h *Host) ConsoleFile(machine string) string {
	return filepath.Join(h.StateDir, machine+".console")
}

// Start the daemon, with NAME=VALUE added to its environment, and wait until
// it answers.
func (h *Host) Start(ctx context.Context, env ...string) error {
	d, err := h.launch(env)
	if err != nil {
		return fmt.Errorf("start hostd on host %s: %w", h.Name, err)
	}
	h.log.Debug("hostd started", "pid", d.process.PID)
	if err := h.ready(ctx, d); err != nil {
		return h.explain(fmt.Errorf("start hostd on host %s: %w", h.Name, err))
	}
	return nil
}

func (h *Host) launch(env []string) (*daemon, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.daemon != nil && !h.daemon.ended() {
		return nil, errors.New("it is running")
	}
	config := filepath.Join(h.Dir, "hostd.yaml")
	if err := h.Config.write(config); err != nil {
		return nil, err
	}
	os.Remove(h.Socket()) // a killed daemon leaves it
	d, err := h.spawn(config, env)
	if err == nil {
		h.daemon = d
	}
	return d, err
}

// ready waits until the daemon's control socket answers.
func (h *Host) ready(ctx context.Context, d *daemon) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("unix", h.Socket())
		if err == nil {
			conn.Close()
			return h.attach(ctx)
		}
		select {
		case <-tick.C:
		case <-d.done:
			return fmt.Errorf("it ended at once: %w", d.err)
		case <-ctx.Done():
			return fmt.Errorf("its control socket does not answer: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// Restart kills the daemon if it runs and starts it again.
func (h *Host) Restart(ctx context.Context, env ...string) error {
	if _, err := h.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return h.Start(ctx, env...)
}

// Daemon is the daemon's process. It fails with os.ErrProcessDone when the
// daemon does not run.
func (h *Host) Daemon() (Process, error) {
	d, err := h.running()
	if err != nil {
		return Process{}, err
	}
	return d.process, nil
}

func (h *Host) running() (*daemon, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.daemon == nil || h.daemon.ended() {
		return nil, fmt.Errorf("hostd on host %s: %w", h.Name, os.ErrProcessDone)
	}
	return h.daemon, nil
}

// Kill the daemon, and nothing else, with SIGKILL. It returns when the daemon
// is gone, and the time just before the signal.
func (h *Host) Kill() (time.Time, error) {
	return h.finish(unix.SIGKILL)
}

// Terminate asks the daemon to end (SIGTERM) and waits until it has.
func (h *Host) Terminate() error {
	_, err := h.finish(unix.SIGTERM)
	return err
}

func (h *Host) finish(s unix.Signal) (time.Time, error) {
	d, err := h.running()
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
		return at, h.explain(fmt.Errorf("hostd on host %s did not end within %s of %s",
			h.Name, patience, unix.SignalName(s)))
	}
}

// Stop freezes the daemon (SIGSTOP) until Cont.
func (h *Host) Stop() error { return h.signal(unix.SIGSTOP) }

// Cont lets a frozen daemon run on.
func (h *Host) Cont() error { return h.signal(unix.SIGCONT) }

func (h *Host) signal(s unix.Signal) error {
	p, err := h.Daemon()
	if err != nil {
		return err
	}
	return p.Signal(s)
}

// KillAll ends the daemon and all its QEMUs with SIGKILL, as fast as signals
// can be sent, and waits until all are gone. The time is that of the first
// signal. The kernel lives on: it closes the connections to the peers, which
// learn of it at once. See PowerOff for a harder death.
func (h *Host) KillAll() (time.Time, error) {
	var first time.Time
	err := killAll(func() ([]Process, error) {
		ps, err := h.Processes()
		if first.IsZero() {
			first = time.Now()
		}
		return ps, err
	})
	if err != nil {
		return first, fmt.Errorf("kill host %s: %w", h.Name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.daemon != nil {
		<-h.daemon.done
	}
	return first, nil
}

// Processes lists the daemon and everything it started that still runs.
func (h *Host) Processes() ([]Process, error) {
	pids, err := h.Space.Processes()
	if err != nil {
		return nil, err
	}
	var ps []Process
	for _, pid := range pids {
		if !carries(pid, marker+"="+h.lab.Name) {
			continue // a visitor's shell
		}
		if p, err := FindProcess(pid); err == nil {
			ps = append(ps, p)
		}
	}
	return ps, nil
}

// PowerOff is the death of a whole host: its cables go silent, no connection
// is closed in anybody's sight, its processes end and its memory is lost. The
// time is that of the cut.
func (h *Host) PowerOff() (time.Time, error) {
	at := time.Now()
	for _, c := range []*Cable{h.Link, h.In, h.Out} {
		if err := c.Unplug(); err != nil {
			return at, err
		}
	}
	if _, err := h.KillAll(); err != nil {
		return at, err
	}
	return at, errors.Join(os.RemoveAll(h.RunDir), os.RemoveAll(h.RAMDir))
}

// PowerOn brings a host back with its disk as it was, and starts its daemon.
func (h *Host) PowerOn(ctx context.Context, env ...string) error {
	if err := h.makeDirectories(); err != nil {
		return err
	}
	if err := h.removeTaps(); err != nil {
		return err
	}
	for _, c := range []*Cable{h.Link, h.In, h.Out} {
		if err := c.Restore(); err != nil {
			return err
		}
	}
	return h.Start(ctx, env...)
}

// removeTaps takes away the interfaces that a real kernel would have lost.
func (h *Host) removeTaps() error {
	links, err := h.Space.links.LinkList()
	if err != nil {
		return fmt.Errorf("list the interfaces of host %s: %w", h.Name, err)
	}
	for _, link := range links {
		if link.Type() != "tuntap" {
			continue
		}
		if err := h.Space.links.LinkDel(link); err != nil {
			return fmt.Errorf("remove %s of host %s: %w", link.Attrs().Name, h.Name, err)
		}
	}
	return nil
}

// QEMU finds the process of a machine on this host, whether the daemon lives
// or not. It fails with os.ErrProcessDone when there is none.
func (h *Host) QEMU(machine string) (Process, error) {
	ps, err := h.Processes()
	if err != nil {
		return Process{}, err
	}
	for _, p := range ps {
		if runsMachine(p.PID, machine) {
			return p, nil
		}
	}
	return Process{}, fmt.Errorf("QEMU of machine %s on host %s: %w", machine, h.Name, os.ErrProcessDone)
}

// runsMachine looks for "-name machine" in a command line.
func runsMachine(pid int, machine string) bool {
	b, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil {
		return false
	}
	args := strings.Split(string(b), "\x00")
	for i := 1; i < len(args); i++ {
		name, _, _ := strings.Cut(args[i], ",")
		if args[i-1] == "-name" && name == machine {
			return true
		}
	}
	return false
}

// QEMUPid is the pid of a machine's QEMU.
func (h *Host) QEMUPid(machine string) (int, error) {
	p, err := h.QEMU(machine)
	return p.PID, err
}

// KillQEMU ends a machine's QEMU with SIGKILL. It returns when it is gone, and
// the time just before the signal.
func (h *Host) KillQEMU(machine string) (time.Time, error) {
	p, err := h.QEMU(machine)
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

// Usage of the daemon.
func (h *Host) Usage() (Usage, error) {
	p, err := h.Daemon()
	if err != nil {
		return Usage{}, err
	}
	return UsageOf(p)
}

// end is the host's end for good.
func (h *Host) end() error {
	_, err := h.KillAll()
	h.detach()
	return err
}
