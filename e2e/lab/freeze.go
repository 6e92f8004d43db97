package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// freezeLimit is how long a frozen process may take to stand still: a system
// call that cannot be interrupted ends first.
const freezeLimit = 10 * time.Second

// Stop freezes the daemon (SIGSTOP) until Cont. It returns when the daemon
// stands still.
func (n *Node) Stop() error { return freezeFound(n.Daemon()) }

// Cont lets a frozen daemon run on.
func (n *Node) Cont() error { return thawFound(n.Daemon()) }

// StopAll freezes everything the host runs until ContAll. It returns when all
// of it stands still. The kernel lives on: it acknowledges what comes over TCP
// until its buffers are full.
func (n *Node) StopAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), freezeLimit)
	defer cancel()
	frozen := map[Process]bool{}
	for { // what forked between the look and the signal is found by the next
		ps, err := n.notIn(frozen)
		if err != nil || len(ps) == 0 {
			return err
		}
		if err := freeze(ctx, ps...); err != nil {
			return fmt.Errorf("freeze host %s: %w", n.Name, err)
		}
		for _, p := range ps {
			frozen[p] = true
		}
	}
}

func (n *Node) notIn(known map[Process]bool) (others []Process, err error) {
	ps, err := n.Processes()
	for _, p := range ps {
		if !known[p] {
			others = append(others, p)
		}
	}
	return others, err
}

// ContAll lets everything on the host run on.
func (n *Node) ContAll() error {
	ps, err := n.Processes()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range ps {
		if err := p.Signal(unix.SIGCONT); !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// StopQEMU freezes a machine's QEMU until ContQEMU. It returns when QEMU
// stands still.
func (h *Host) StopQEMU(machine string) error { return freezeFound(h.QEMU(machine)) }

// ContQEMU lets a frozen QEMU run on.
func (h *Host) ContQEMU(machine string) error { return thawFound(h.QEMU(machine)) }

func freezeFound(p Process, err error) error {
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), freezeLimit)
	defer cancel()
	if !p.Alive() {
		return p.error("freeze", unix.ESRCH)
	}
	return freeze(ctx, p)
}

func thawFound(p Process, err error) error {
	if err != nil {
		return err
	}
	return p.Signal(unix.SIGCONT)
}

// freeze stops processes, all signals first, and waits until all stand still.
// Those that have ended do.
func freeze(ctx context.Context, ps ...Process) error {
	for _, p := range ps {
		if err := p.Signal(unix.SIGSTOP); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, p := range ps {
		for p.Alive() && !still(p.PID) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return p.error("freeze", ctx.Err())
			}
		}
	}
	return nil
}

// still reports whether no thread of a process runs: a signal stops them one
// after the other.
func still(pid int) bool {
	stats, err := filepath.Glob(procPath(pid, "task/*/stat"))
	if err != nil {
		return false
	}
	for _, path := range stats {
		switch taskState(path) {
		case "T", "t", "Z", "X", "": // "": it has ended
		default:
			return false
		}
	}
	return true
}

// taskState is the state of a thread by its stat file, proc_pid_stat(5) field
// 3; empty if there is none.
func taskState(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	fields := statFields(b)
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}
