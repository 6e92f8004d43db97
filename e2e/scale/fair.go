package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	fairMachines = 10
	fairDirty    = 100
	fairInterval = 50 * time.Millisecond
	narrow       = 20 << 20 // bytes per second, an eighth of what is asked for
)

// measureFairness lets equal machines share a link that is too narrow for them.
func measureFairness(ctx context.Context, w *world, o options, to io.Writer) error {
	if err := w.grow(ctx, fairMachines, small(fairDirty, fairInterval)); err != nil {
		return err
	}
	t := table{title: fmt.Sprintf("Shares of the link: %d equal machines, %d pages every %v", fairMachines, fairDirty, fairInterval),
		head: []string{"link", "shipped MiB/s", "least share / equal share", "most", "Jain's index"}}
	for _, rate := range []uint64{0, narrow} {
		if err := w.Link.Rate(rate); err != nil {
			return err
		}
		if err := wait(ctx, settle); err != nil {
			return err
		}
		r, _, err := w.over(ctx, 2*o.window)
		if err != nil {
			return err
		}
		t.add(linkName(rate), sum(r.shipped)/r.time.Seconds()/mib, slices.Min(r.shipped)/sum(r.shipped)*fairMachines,
			slices.Max(r.shipped)/sum(r.shipped)*fairMachines, fmt.Sprintf("%.4f", jain(r.shipped)))
	}
	return t.write(to)
}

func linkName(rate uint64) string {
	if rate == 0 {
		return "not limited"
	}
	return fmt.Sprintf("%d MiB/s", rate>>20)
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}
