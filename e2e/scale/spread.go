package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

const (
	spreadMachines = 50
	// standstill of the standby's daemon, after which all machines are due at
	// once.
	standstill = 400 * time.Millisecond
)

// measureSpread counts the checkpoints that are under way at the same time, in
// ordinary life and after all machines had to wait for the standby at once.
func measureSpread(ctx context.Context, w *world, o options, to io.Writer) error {
	if err := w.grow(ctx, spreadMachines, small(dirty, interval)); err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	t := table{title: fmt.Sprintf("Checkpoints under way at once, of %d machines", spreadMachines),
		head: []string{"", "guest stopped: mean", "when one begins", "most", "until the commit: mean", "when one begins", "most"}}
	if err := w.addSpread(ctx, &t, "started one after the other", o.window); err != nil {
		return err
	}
	if err := w.standStill(ctx); err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	if err := w.addSpread(ctx, &t, "after the standby stood still", o.window); err != nil {
		return err
	}
	return t.write(to)
}

func (w *world) standStill(ctx context.Context) error {
	if err := w.b.Stop(); err != nil {
		return err
	}
	err := wait(ctx, standstill)
	if awake := w.b.Cont(); err == nil {
		err = awake
	}
	return err
}

func (w *world) addSpread(ctx context.Context, t *table, label string, d time.Duration) error {
	events, err := w.checkpoints(ctx, d)
	if err != nil {
		return err
	}
	p := partsOf(events)
	stopped, whole := overlapOf(p.stops), overlapOf(p.whole)
	t.add(label, stopped.mean, stopped.met, stopped.most, whole.mean, whole.met, whole.most)
	return nil
}
