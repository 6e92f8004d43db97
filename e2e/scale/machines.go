package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

const (
	interval = 200 * time.Millisecond // from checkpoint to checkpoint
	dirty    = 20                     // pages in each
	mib      = 1 << 20
)

// measureMachines adds machines step by step and looks at each step.
func measureMachines(ctx context.Context, w *world, o options, to io.Writer) error {
	main := table{title: fmt.Sprintf("Machines per daemon: %.0f checkpoints per second each, %d dirty pages", 1/interval.Seconds(), dirty),
		head: []string{"machines", "asked /s", "taken /s", "CPU ms per checkpoint, A", "B", "CPU of one core, A", "B", "pause p50 ms", "p95", "commit p50 ms", "p95"}}
	held := holdings{}
	for _, n := range o.machines {
		if err := w.grow(ctx, n, small(dirty, interval)); err != nil {
			return err
		}
		if err := wait(ctx, settle); err != nil {
			return err
		}
		r, l, err := w.over(ctx, o.window)
		if err != nil {
			return err
		}
		events, err := w.checkpoints(ctx, o.window/2)
		if err != nil {
			return err
		}
		p := partsOf(events)
		main.add(n, float64(n)/interval.Seconds(), r.checkpoints/r.time.Seconds(),
			per(r.cpu[0], r.checkpoints), per(r.cpu[1], r.checkpoints), r.cpu[0].Seconds()/r.time.Seconds(), r.cpu[1].Seconds()/r.time.Seconds(),
			p.pause.P50/1e3, p.pause.P95/1e3, p.commit.P50/1e3, p.commit.P95/1e3)
		held.add(n, l)
	}
	if err := main.write(to); err != nil {
		return err
	}
	return held.write(to)
}

// settle is how long machines run before they are looked at.
const settle = time.Second

// per is milliseconds of d for each of n.
func per(d time.Duration, n float64) float64 { return d.Seconds() * 1e3 / max(n, 1) }

// holdings are what the daemons hold, by the number of machines.
type holdings struct {
	machines []float64
	values   [2][4][]float64 // by host: own memory, descriptors, threads, goroutines
}

func (h *holdings) add(n int, l look) {
	h.machines = append(h.machines, float64(n))
	for i := range h.values {
		u := l.usage[i]
		for j, v := range []float64{float64(u.Anonymous) / mib, float64(u.Descriptors), float64(u.Threads), l.goroutines[i]} {
			h.values[i][j] = append(h.values[i][j], v)
		}
	}
}

func (h *holdings) write(to io.Writer) error {
	t := table{title: "What a daemon holds", head: []string{"machines", "memory MiB, A", "B", "descriptors, A", "B", "threads, A", "B", "goroutines, A", "B"}}
	row := func(label any, of func([]float64) float64) {
		cells := []any{label}
		for j := range h.values[0] {
			cells = append(cells, of(h.values[0][j]), of(h.values[1][j]))
		}
		t.add(cells...)
	}
	for k, n := range h.machines {
		row(fmt.Sprint(n), func(v []float64) float64 { return v[k] })
	}
	row("each machine adds", func(v []float64) float64 { return fit(h.machines, v).slope })
	return t.write(to)
}
