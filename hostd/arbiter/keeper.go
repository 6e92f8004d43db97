package arbiter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// firstPause is before a member is started again, and doubles up to
	// longestPause while it does not get well: a damaged disk is not hammered.
	firstPause, longestPause = 2 * time.Second, 5 * time.Minute
	// lookEvery is how often something that the operator changed is looked for
	// meanwhile: then the member is started at once.
	lookEvery = 2 * time.Second
	// wellAfter is how long a life must last to count as a good one.
	wellAfter = time.Minute
	// leaveLimit is how long a member may take to end in good order; longer than
	// Close.
	leaveLimit = closeLimit + 5*time.Second
)

// What a member's process says to its keeper, a line each, on standard output.
const (
	saidReady  = "ready"
	saidFailed = "failed "
)

// KeeperOptions say how a member's process is made and kept.
type KeeperOptions struct {
	// Command makes the process of one life, which calls Attend. Its input,
	// output, error and attributes are the Keeper's.
	Command func() *exec.Cmd
	// Changed describes what an operator changes to mend a member: when it
	// answers otherwise than before, the next start does not wait. nil: nothing.
	Changed func() string
	// Advice is what to do about a member that is down, for people.
	Advice string
	Log    hclog.Logger

	firstPause, longestPause, lookEvery time.Duration // 0: as above
}

// Keeper runs a member in a process of its own, and starts it again when it
// ends: after a pause that doubles while the member does not get well. What
// ends the member (a panic, a signal for a page that cannot be read, the
// kernel for want of memory) touches nothing here.
//
// The process ends when the Keeper is closed, in good order, and is killed by
// the kernel when the Keeper's own process dies: a later one finds neither its
// ports nor its directory taken.
type Keeper struct {
	options KeeperOptions
	ctx     context.Context
	end     context.CancelFunc
	owned   sync.WaitGroup
	changed chan struct{}

	mu   sync.Mutex
	down string
}

// Keep starts a member's process, and keeps it until Close.
func Keep(o KeeperOptions) *Keeper {
	o.firstPause = orElse(o.firstPause, firstPause)
	o.longestPause = orElse(o.longestPause, longestPause)
	o.lookEvery = orElse(o.lookEvery, lookEvery)
	k := &Keeper{options: o, changed: make(chan struct{}, 1)}
	k.ctx, k.end = context.WithCancel(context.Background())
	k.owned.Go(k.keep)
	return k
}

func orElse(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Down says why the member does not run, and what to do; "" while it does, or
// was not heard to have ended.
func (k *Keeper) Down() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.down
}

// Changed is sent to when Down answers otherwise than before.
func (k *Keeper) Changed() <-chan struct{} { return k.changed }

// Close ends the member in good order and waits for its process: some 25 s at
// the most.
func (k *Keeper) Close() {
	k.end()
	k.owned.Wait()
}

func (k *Keeper) keep() {
	// The kernel ends the process with the thread that has started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for pause := k.options.firstPause; k.ctx.Err() == nil; pause = min(2*pause, k.options.longestPause) {
		begun := time.Now()
		err := k.live()
		if k.ctx.Err() != nil {
			break
		}
		if time.Since(begun) >= wellAfter || errors.Is(err, ErrNoRoom) {
			pause = k.options.firstPause
		}
		k.options.Log.Error("the arbiter's member on this host is down; the daemon and its machines are not touched",
			"error", err, "again-in", pause, "advice", k.options.Advice)
		seen := k.look() // before anybody can know of it, and mend it
		k.setDown(fmt.Sprintf("the arbiter's member on this host is down: %v; it is started again by and by. %s", err, k.options.Advice))
		k.wait(pause, seen)
	}
}

func (k *Keeper) setDown(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down == why {
		return
	}
	k.down = why
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// wait for the next start, or until somebody has changed what was seen.
func (k *Keeper) wait(pause time.Duration, seen string) {
	over := time.NewTimer(pause)
	defer over.Stop()
	look := time.NewTicker(k.options.lookEvery)
	defer look.Stop()
	for {
		select {
		case <-over.C:
			return
		case <-k.ctx.Done():
			return
		case <-look.C:
			if k.look() != seen {
				return
			}
		}
	}
}

func (k *Keeper) look() string {
	if k.options.Changed == nil {
		return ""
	}
	return k.options.Changed()
}

// live is one life of the member.
func (k *Keeper) live() error {
	p := k.options.Command()
	// A group of its own: what a terminal or a service manager sends to the
	// daemon does not end the member before the daemon has ended.
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	input, err := p.StdinPipe()
	if err != nil {
		return err
	}
	output, errput, err := pipes(p)
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		input.Close()
		return fmt.Errorf("start its process: %w", err)
	}
	return k.attend(p, input, output, errput)
}

func pipes(p *exec.Cmd) (output, errput io.ReadCloser, err error) {
	if output, err = p.StdoutPipe(); err != nil {
		return nil, nil, err
	}
	errput, err = p.StderrPipe()
	return output, errput, err
}

// attend a process until it has ended. Its input ends when it is to leave.
func (k *Keeper) attend(p *exec.Cmd, input io.Closer, output, errput io.Reader) error {
	heard := hearing{log: k.options.Log, ready: func() {
		k.options.Log.Info("the arbiter's member on this host is up")
		k.setDown("")
	}}
	var reading sync.WaitGroup
	reading.Go(func() { heard.output(output) })
	reading.Go(func() { heard.errput(errput) })
	over := make(chan struct{})
	stop := context.AfterFunc(k.ctx, func() {
		input.Close()
		select {
		case <-over:
		case <-time.After(leaveLimit):
			p.Process.Kill()
		}
	})
	reading.Wait()
	err := p.Wait()
	close(over)
	stop()
	input.Close()
	return heard.why(err)
}
