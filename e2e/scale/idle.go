package main

import (
	"context"
	"fmt"
	"io"
)

const idleMachines = 50

// measureIdle tells what a protected machine costs between its checkpoints.
func measureIdle(ctx context.Context, w *world, o options, to io.Writer) error {
	if err := w.grow(ctx, idleMachines, small(dirty, 0)); err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	r, _, err := w.over(ctx, o.window)
	if err != nil {
		return err
	}
	t := table{title: fmt.Sprintf("Between checkpoints: %d machines, a heartbeat every 50 ms each way", idleMachines),
		head: []string{"host", "CPU ms per machine and second", "bytes per machine and second"}}
	each := r.time.Seconds() * idleMachines
	t.add("A", per(r.cpu[0], each), r.sent/each)
	t.add("B", per(r.cpu[1], each), "")
	return t.write(to)
}
