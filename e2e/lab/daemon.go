package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/vishvananda/netns"
)

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

// spawn starts hostd inside the host's namespace.
func (h *Host) spawn(config string, env []string) (*daemon, error) {
	if h.lab.options.HostdBinary == "" {
		return nil, errors.New("the lab was made without a daemon's binary")
	}
	log, err := os.OpenFile(h.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(h.lab.options.HostdBinary, "serve", "--config", config)
	cmd.Dir = h.StateDir // see ownConsole
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(append(os.Environ(), "GOTRACEBACK=all", marker+"="+h.lab.Name), env...)
	// A daemon does not outlive a test that was killed; what it started is
	// Sweep's to find.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	d := &daemon{done: make(chan struct{})}
	started := make(chan error)
	go d.run(h, cmd, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return d, nil
}

// run starts the daemon and waits for its end on one and the same thread:
// Pdeathsig fires when the thread that forked ends.
func (d *daemon) run(h *Host, cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	err := h.startInside(cmd)
	if err == nil {
		err = d.identify(h, cmd.Process.Pid)
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

func (d *daemon) identify(h *Host, pid int) (err error) {
	if d.process, err = FindProcess(pid); err != nil {
		return err
	}
	return h.lab.record.process(d.process)
}

func (h *Host) startInside(cmd *exec.Cmd) error {
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	if err := netns.Set(h.Space.handle); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", h.Space.Name, err)
	}
	err = cmd.Start()
	if back := netns.Set(home); back != nil {
		err = errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
	}
	return err
}
