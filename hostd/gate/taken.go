package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// takenSoon is how often AwaitTaken looks at first: QEMU reads a tap within
	// microseconds, less than a timer of the runtime takes.
	takenSoon, takenSoonTimes = 50 * time.Microsecond, 4
	takenPoll                 = time.Millisecond
	// deafAfter is how long a guest may take nothing before it is not waited for: it
	// does not run, or does not use that port.
	deafAfter = 200 * time.Millisecond
)

var errDeaf = errors.New("the guest takes nothing; if it only was slow it may lose one packet of each port")

// AwaitTaken waits until the guest has what was handed to it, or takes nothing any
// more, or ctx ends. Input must be held and the guest run. A packet for which the guest
// has no buffer waits inside QEMU, at most one for each port, and is dropped when
// the guest is stopped (qemu_flush_or_purge_queued_packets in QEMU's net/net.c). A port
// that the guest takes nothing from is not waited for again until it does.
func (g *Gate) AwaitTaken(ctx context.Context) error {
	moved := time.Now()
	for n, last := 0, -1; ; n++ {
		left, err := g.untaken()
		switch {
		case err != nil:
			return err
		case left == 0 && n > takenSoonTimes && last != 0:
			last = 0 // a guest that was slow makes room for the last one
		case left == 0:
			return nil
		case left != last:
			moved, last = time.Now(), left
		case time.Since(moved) > deafAfter:
			g.noteDeaf()
			return errDeaf
		}
		if err := untilNextLook(ctx, n); err != nil {
			return fmt.Errorf("wait until the guest has taken what arrived: %w", err)
		}
	}
}

func untilNextLook(ctx context.Context, n int) error {
	if n < takenSoonTimes {
		t := unix.NsecToTimespec(int64(takenSoon))
		_ = unix.Nanosleep(&t, nil) // a signal ends it early
		return ctx.Err()
	}
	timer := time.NewTimer(takenPoll)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// untaken counts the frames in the taps that are waited for.
func (g *Gate) untaken() (left int, err error) {
	g.in.Lock()
	defer g.in.Unlock()
	for _, p := range g.ports {
		if err := g.settle(p); err != nil {
			return 0, fmt.Errorf("ask how much of port %s QEMU has read: %w", p.Name, err)
		}
		if p.deaf && p.flight.Settled() != p.deafAt {
			p.deaf = false
		}
		if !p.deaf {
			left += p.flight.Len()
		}
	}
	return left, nil
}

func (g *Gate) noteDeaf() {
	g.in.Lock()
	defer g.in.Unlock()
	for _, p := range g.ports {
		if p.flight.Len() > 0 {
			p.deaf, p.deafAt = true, p.flight.Settled()
		}
	}
}
