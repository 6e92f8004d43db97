package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A packet for which a running guest has no buffer waits inside QEMU, one for each
// port, and is dropped when the guest is stopped. So a guest that is slow is given some
// time before it is stopped: first to take what lies in its taps, then, if its
// application was not heard of, to make buffers available.

const (
	// takenLimit bounds how long a guest may go on to take what was handed to it.
	takenLimit = time.Second
	// buffersLimit bounds how long a guest may be without a buffer.
	buffersLimit = 200 * time.Millisecond
	buffersPoll  = time.Millisecond
)

var errNoBuffers = errors.New("the guest makes no buffers available")

// awaitTaken lets the guest, which runs, take what was handed to it. Input is held.
func (g *guest) awaitTaken(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, takenLimit)
	defer cancel()
	if err := g.gate.AwaitTaken(ctx); err != nil {
		g.log.Debug("the guest is stopped while packets wait for it", "error", err)
	}
}

// awaitBuffers lets the guest, which runs, make buffers available on each port.
func (p *protection) awaitBuffers() {
	ctx, cancel := context.WithTimeout(p.ctx, buffersLimit)
	defer cancel()
	if err := p.buffers.await(ctx, p.g.exhausted); err != nil {
		p.g.log.Debug("the guest is stopped while it may have no buffers for packets", "error", err)
	}
}

// buffers remembers whether the guest had none the last time. Then it is not waited
// for.
type buffers struct{ missing bool }

// await asks again and again whether a port has none, until that is over or ctx ends.
func (b *buffers) await(ctx context.Context, exhausted func(context.Context) (bool, error)) error {
	tick := time.NewTicker(buffersPoll)
	defer tick.Stop()
	for {
		none, err := exhausted(ctx)
		if err == nil && !none {
			b.missing = false
			return nil
		}
		if b.missing || err != nil || ctx.Err() != nil {
			b.missing = true
			return errors.Join(errNoBuffers, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// exhausted tells whether a port of the guest has no buffers.
func (g *guest) exhausted(ctx context.Context) (bool, error) {
	for i, port := range g.spec.Ports {
		path, queue := g.qemu.ReceiveQueue(i)
		q, err := g.qemu.Monitor().VirtioQueue(ctx, path, queue)
		if err != nil {
			return false, fmt.Errorf("ask for the buffers of port %s: %w", port.Name, err)
		}
		if q.Exhausted() {
			return true, nil
		}
	}
	return false, nil
}
