package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// readyLimit is how long a daemon may take until it answers.
const readyLimit = 30 * time.Second

// daemon is one run of hostd.
type daemon struct {
	process Process
	done    chan struct{} // closed when it has ended
	err     error         // how; valid after done
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// await asks again and again whether the daemon is ready, until the answer is
// nil, the daemon ends or readyLimit has passed.
func (d *daemon) await(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-d.done:
			return fmt.Errorf("it ended at once: %w", d.err)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// spawn starts hostd with some arguments inside the node's namespace.
func (n *Node) spawn(env []string, args ...string) (*daemon, error) {
	if n.lab.options.HostdBinary == "" {
		return nil, errors.New("the lab was made without a daemon's binary")
	}
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(n.lab.options.HostdBinary, args...)
	cmd.Dir = n.StateDir // see ownConsole
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = slices.Concat(os.Environ(), n.environment(), env)
	// A daemon does not outlive a test that was killed; what it started is
	// Sweep's to find.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	d := &daemon{done: make(chan struct{})}
	started := make(chan error)
	go d.run(n, cmd, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return d, nil
}

func (n *Node) environment() []string {
	env := []string{"GOTRACEBACK=all", marker + "=" + n.lab.Name}
	if skew := time.Duration(n.skew.Load()); skew != 0 {
		env = append(env, "STILLPOINT_CLOCK_OFFSET="+skew.String())
	}
	return env
}

// run starts the daemon and waits for its end on one and the same thread:
// Pdeathsig fires when the thread that forked ends.
func (d *daemon) run(n *Node, cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	err := n.startInside(cmd)
	if err == nil {
		err = d.identify(n, cmd.Process.Pid)
	}
	if err != nil {
		if cmd.Process != nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
		started <- err
		return
	}
	started <- nil
	d.err = cmd.Wait()
	close(d.done)
	runtime.UnlockOSThread()
}

func (d *daemon) identify(n *Node, pid int) (err error) {
	if d.process, err = FindProcess(pid); err != nil {
		return err
	}
	return n.lab.record.process(d.process)
}

func (n *Node) startInside(cmd *exec.Cmd) error {
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	if err := netns.Set(n.Space.handle); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", n.Space.Name, err)
	}
	err = cmd.Start()
	if back := netns.Set(home); back != nil {
		err = errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
	}
	return err
}
