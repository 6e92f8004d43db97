package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/falseqemu"
	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// world is two hosts whose machines are false QEMUs: all machines run on A, and
// B is their standby.
type world struct {
	*lab.Lab
	a, b  *lab.Host
	names []string
}

// newWorld starts the daemons. They are patient: what is measured here is no
// failure, however slow.
func newWorld(ctx context.Context, o options) (*world, error) {
	l, err := lab.New(ctx, lab.Options{HostdBinary: o.hostd, QEMU: filepath.Join(o.build, "bin/falseqemu"), Accel: "tcg",
		FewEvents: true, Dir: "/dev/shm"}) // not the disk is measured
	if err != nil {
		return nil, err
	}
	w := &world{Lab: l, a: l.Host("a"), b: l.Host("b")}
	for _, h := range l.Hosts {
		h.Config.Detection = lab.Detection{Heartbeat: "50ms", Limit: "20s", QEMU: "60s"}
		h.Config.Log.Level = "warn"
		// A false guest changes one word of each page: shipped as deltas its pages
		// would load neither daemons nor link as a guest's do.
		h.Config.Limits.DeltaCache, h.Config.Link.Compress = "0", "off"
	}
	if err := l.Start(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return w, nil
}

// kind of machine.
type kind struct {
	guest    falseqemu.Guest
	memory   string
	interval time.Duration // 0: no checkpoint but the first
}

func (k kind) protection() lab.Protection {
	if k.interval == 0 {
		return lab.Protection{Checkpoint: "demand", MaxEpoch: "1m"} // nothing is ever sent
	}
	return lab.Protection{Checkpoint: "periodic", Interval: k.interval.String()}
}

const (
	seedPages   = 512      // of a first copy: they fill every buffer on the way
	deviceBytes = 64 << 10 // as a small machine of QEMU's has
)

// small machine, as most of a host's are.
func small(pages int, interval time.Duration) kind {
	return kind{falseqemu.Guest{Seed: seedPages, Dirty: pages, Device: deviceBytes}, "16MiB", interval}
}

// starters is how many machines are started at once.
const starters = 8

// grow starts and protects machines until there are n.
func (w *world) grow(ctx context.Context, n int, k kind) error {
	jobs := make(chan string)
	var all sync.WaitGroup
	var once sync.Once
	var failed error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range starters {
		all.Go(func() {
			for name := range jobs {
				if err := w.add(ctx, name, k); err != nil {
					once.Do(func() { failed = err })
					cancel()
				}
			}
		})
	}
	for len(w.names) < n {
		name := fmt.Sprintf("m%d", len(w.names))
		w.names = append(w.names, name)
		jobs <- name
	}
	close(jobs)
	all.Wait()
	return failed
}

func (w *world) add(ctx context.Context, name string, k kind) error {
	m := lab.Machine{Name: name, Memory: k.memory, CPUs: 1, Kernel: "/none", Append: k.guest.String(), Protection: k.protection()}
	if _, err := w.a.StartMachine(ctx, m); err != nil {
		return err
	}
	_, err := w.a.Protect(ctx, name, w.b.Name)
	return err
}

// shrink ends all machines.
func (w *world) shrink(ctx context.Context) error {
	for _, name := range w.names {
		if _, err := w.a.StopMachine(ctx, name); err != nil {
			return err
		}
	}
	w.names = nil
	return nil
}

// checkpoints of all machines in the time that comes.
func (w *world) checkpoints(ctx context.Context, d time.Duration) ([]*control.Event, error) {
	api, err := w.a.API()
	if err != nil {
		return nil, err
	}
	listening, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := api.Events(listening, &control.EventsRequest{Checkpoints: true})
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	timer := time.AfterFunc(d, cancel)
	defer timer.Stop()
	var taken []*control.Event
	for {
		e, err := stream.Recv()
		if err != nil && time.Since(begin) >= d {
			return taken, ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("listen to the checkpoints of host %s: %w", w.a.Name, err)
		}
		if e.Checkpoint != nil && e.Checkpoint.StartedUnixNanos >= begin.UnixNano() {
			taken = append(taken, e)
		}
	}
}

// wait, unless the context ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
