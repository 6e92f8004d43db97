package main

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
	"github.com/stillpoint-ft/stillpoint/e2e/traffic"
)

const (
	takeoverRate = 1000                  // packets per second: when the first comes through is known to a millisecond
	beforeKill   = 20                    // checkpoints
	resent       = 20 * time.Millisecond // packets that were committed come before the first new one
)

// measureTakeovers kills the QEMU of a machine under Stillpoint and then, where
// it runs next, under stock COLO.
func (o options) measureTakeovers(ctx context.Context, t *takeovers) (err error) {
	s, err := scene.New(ctx, scene.Options{Build: o.build, QEMU: o.qemu})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := errors.Join(s.A.Start(ctx), s.B.Start(ctx)); err != nil {
		return err
	}
	from, to := s.A, s.B
	for round := range o.rounds {
		m := s.NAT()
		m.Memory = t.Memory
		m.Protection.Checkpoint, m.Protection.Interval = "periodic", o.interval.String()
		if err := bootAgain(ctx, s, from, m); err != nil {
			return s.Explain(err)
		}
		if err := o.takeOver(ctx, s, t, from, to, uint32(round+1)); err != nil {
			return s.Explain(err)
		}
		if err := o.stockTakesOver(ctx, s, t, to, from); err != nil {
			return s.Explain(err)
		}
		from, to = to, from // who has the voice starts the next one
	}
	return nil
}

// bootAgain starts a machine, once the daemon is through with what it found.
func bootAgain(ctx context.Context, s *scene.Scene, h *lab.Host, m lab.Machine) (err error) {
	waited := scene.Until(ctx, func() bool { err = s.BootOn(ctx, h, m); return status.Code(err) != codes.Aborted })
	return errors.Join(waited, err)
}

func (o options) takeOver(ctx context.Context, s *scene.Scene, t *takeovers, from, to *lab.Host, stream uint32) error {
	if err := s.Protect(ctx, from, to); err != nil {
		return err
	}
	flow, err := s.StartTraffic(ctx, scene.TrafficOptions{Rate: takeoverRate, Stream: stream})
	if err != nil {
		return err
	}
	if err := flow.Flowing(ctx, takeoverRate); err != nil {
		return err
	}
	mark := to.EventMark()
	at, err := from.KillQEMU(scene.Machine)
	if err != nil {
		return err
	}
	running, err := to.WaitEvent(ctx, mark, lab.Kind(scene.Machine, "running"))
	if err != nil {
		return err
	}
	busy, err := untilAnswer(ctx, to, flow)
	if err != nil {
		return err
	}
	if err := flow.Flowing(ctx, takeoverRate); err != nil {
		return err
	}
	r, err := flow.Stop(ctx)
	if err != nil {
		return err
	}
	ran := time.Unix(0, running.TimeUnixNanos).Sub(at.Round(0))
	gap, _ := traffic.Blackout(r.Log, at.Round(0).Sub(r.Log.Start.Round(0)), ran+resent)
	t.Running = append(t.Running, ran)
	t.Busy = append(t.Busy, busy)
	t.FirstPacket = append(t.FirstPacket, r.Log.Start.Round(0).Add(gap.To).Sub(at.Round(0)))
	return nil
}

// untilAnswer is the processor time that a machine's QEMU uses until the next
// answer comes back.
func untilAnswer(ctx context.Context, on *lab.Host, flow *scene.Traffic) (used time.Duration, err error) {
	qemu, err := on.QEMU(scene.Machine)
	if err != nil {
		return 0, err
	}
	before, err := lab.UsageOf(qemu)
	if err != nil {
		return 0, err
	}
	if err := flow.Flowing(ctx, 1); err != nil {
		return 0, err
	}
	after, err := lab.UsageOf(qemu)
	return after.CPU - before.CPU, err
}

// stockTakesOver ends with the machine lost and both daemons there.
func (o options) stockTakesOver(ctx context.Context, s *scene.Scene, t *takeovers, from, to *lab.Host) error {
	if _, err := from.WaitRole(ctx, scene.Machine, "protected"); err != nil { // by itself, once the other host is back
		return err
	}
	if _, err := from.Unprotect(ctx, scene.Machine); err != nil {
		return err
	}
	if err := silence(from); err != nil {
		return err
	}
	took, err := failOver(ctx, from, to, scene.Machine, beforeKill, o.interval)
	if err != nil {
		return err
	}
	t.Stock = append(t.Stock, took)
	return from.Start(ctx)
}

// silence kills a host's daemon and its supervisor, in this order: a daemon would
// start another. QEMU stays.
func silence(h *lab.Host) error {
	_, daemon := h.Kill()
	_, supervisor := h.KillSupervisor()
	return errors.Join(daemon, supervisor)
}
