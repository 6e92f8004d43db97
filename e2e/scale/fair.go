package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	fairMachines = 10
	fairDirty    = 100
	fairInterval = 50 * time.Millisecond
	narrow       = 20 << 20 // bytes per second, a fourth of what is asked for
)

// measureFairness lets equal machines share a link, and one that is too narrow
// for them. Each machine has a connection of its own, so TCP makes the shares.
func measureFairness(ctx context.Context, w *world, o options, to io.Writer) error {
	t := table{title: fmt.Sprintf("Shares of the link: %d equal machines, %d pages every %v", fairMachines, fairDirty, fairInterval),
		head: []string{"link", "TCP's congestion control", "shipped MiB/s", "least share / equal share", "most", "Jain's index"}}
	available, err := controls()
	if err != nil {
		return err
	}
	for _, control := range available {
		if err := w.setControl(control); err != nil {
			return err
		}
		for _, rate := range []uint64{0, narrow} {
			if err := w.addShares(ctx, &t, rate, control, o.window); err != nil {
				return err
			}
		}
	}
	return t.write(to)
}

const sysctl = "/proc/sys/net/ipv4/tcp_"

// controls that this kernel allows in a namespace.
func controls() ([]string, error) {
	b, err := os.ReadFile(sysctl + "allowed_congestion_control")
	return strings.Fields(string(b)), err
}

// setControl of the connections that A will make.
func (w *world) setControl(name string) error {
	return w.a.Space.Do(func() error { return os.WriteFile(sysctl+"congestion_control", []byte(name), 0) })
}

// addShares of machines that are new: TCP remembers nothing.
func (w *world) addShares(ctx context.Context, t *table, rate uint64, control string, d time.Duration) error {
	if err := w.grow(ctx, fairMachines, small(fairDirty, fairInterval)); err != nil {
		return err
	}
	if err := w.Link.Rate(rate); err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	r, _, err := w.over(ctx, d)
	if err != nil {
		return err
	}
	equal := sum(r.shipped) / fairMachines
	t.add(linkName(rate), control, sum(r.shipped)/r.time.Seconds()/mib, slices.Min(r.shipped)/equal, slices.Max(r.shipped)/equal, fmt.Sprintf("%.3f", jain(r.shipped)))
	return w.rest(ctx)
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
