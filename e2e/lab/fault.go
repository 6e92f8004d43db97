package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Faults stops a daemon that was built with the tag "faults" at labelled
// steps. The daemon waits for Hit.Go, though no longer than 10 s. Its methods
// may be called concurrently.
//
// The protocol is a line "label epoch" from the daemon and an empty one, or
// any other, in answer.
type Faults struct {
	path     string
	listener net.Listener
	hits     chan *Hit
	done     chan struct{}
	owned    sync.WaitGroup
	close    func() error

	mu    sync.Mutex
	ops   []string
	conns map[net.Conn]struct{}
}

// Hit is a daemon standing at a labelled step.
type Hit struct {
	Label string
	Epoch uint64
	Time  time.Time
	conn  net.Conn
}

// Go lets the daemon go on.
func (h *Hit) Go() error {
	if _, err := io.WriteString(h.conn, "go\n"); err != nil {
		return fmt.Errorf("let the daemon pass %s of epoch %d: %w", h.Label, h.Epoch, err)
	}
	return nil
}

// Faults listens for a host's daemon at the given steps: "label", or
// "label@epoch" for that epoch and later ones. Start the daemon with
// Faults.Env. The lab closes it.
func (h *Host) Faults(ops ...string) (*Faults, error) {
	f := &Faults{
		path:  filepath.Join(h.lab.record.dir(), fmt.Sprintf("%s-fault-%d", h.Name, h.faults.Add(1))),
		ops:   ops,
		hits:  make(chan *Hit),
		done:  make(chan struct{}),
		conns: map[net.Conn]struct{}{},
	}
	var err error
	if f.listener, err = net.Listen("unix", f.path); err != nil {
		return nil, fmt.Errorf("listen for faults of host %s: %w", h.Name, err)
	}
	f.close = sync.OnceValue(f.shut)
	f.owned.Go(f.accept)
	h.lab.cleanup.push("close the faults of host "+h.Name, f.Close)
	return f, nil
}

// Arm changes the steps, from the daemon's next start with Env on.
func (f *Faults) Arm(ops ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops = ops
}

// Env is what the daemon's environment needs.
func (f *Faults) Env() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []string{
		"STILLPOINT_FAULT_SOCKET=" + f.path,
		"STILLPOINT_FAULT_OPS=" + strings.Join(f.ops, ","),
	}
}

// Await waits until a daemon stands at the step of a label; an empty label
// means any. Steps with other labels pass meanwhile.
func (f *Faults) Await(ctx context.Context, label string) (*Hit, error) {
	for {
		select {
		case h := <-f.hits:
			if label == "" || h.Label == label {
				return h, nil
			}
			if err := h.Go(); err != nil && !gone(err) {
				return nil, err
			}
		case <-f.done:
			return nil, fmt.Errorf("wait for step %q: %w", label, net.ErrClosed)
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for step %q: %w", label, ctx.Err())
		}
	}
}

// Pass lets every step pass from now on, until the context ends.
func (f *Faults) Pass(ctx context.Context) error {
	_, err := f.Await(ctx, "\n") // no label
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// gone tells that the daemon died where it stood.
func gone(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || isReset(err)
}

// Close frees a daemon that stands at a step: its connection ends.
func (f *Faults) Close() error { return f.close() }

func (f *Faults) shut() error {
	close(f.done)
	err := f.listener.Close() // removes the socket
	f.mu.Lock()
	for c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.owned.Wait()
	return err
}

func (f *Faults) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return // closed
		}
		if f.adopt(conn) {
			f.owned.Go(func() { f.serve(conn) })
		}
	}
}

func (f *Faults) adopt(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.done:
		conn.Close()
		return false
	default:
		f.conns[conn] = struct{}{}
		return true
	}
}

func (f *Faults) serve(conn net.Conn) {
	defer func() {
		f.mu.Lock()
		delete(f.conns, conn)
		f.mu.Unlock()
		conn.Close()
	}()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		label, epoch, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseUint(epoch, 10, 64)
		if err != nil {
			return // not our daemon
		}
		select {
		case f.hits <- &Hit{label, n, time.Now(), conn}:
		case <-f.done:
			return
		}
	}
}
