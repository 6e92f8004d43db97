package main

import (
	"context"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/report"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// look is what the hosts have done so far, and what they hold.
type look struct {
	at         time.Time
	usage      [2]lab.Usage
	goroutines [2]float64
	machines   map[string]*control.Machine
	sent       uint64 // bytes that left A for B, with all headers
}

// see asks for the processes last if before is false, so that what asking costs
// is not in the difference of two looks.
func (w *world) see(ctx context.Context, before bool) (l look, err error) {
	if !before {
		if err := w.seeProcesses(&l); err != nil {
			return l, err
		}
	}
	l.machines = map[string]*control.Machine{}
	for i, h := range []*lab.Host{w.a, w.b} {
		status, err := h.Status(ctx)
		if err != nil {
			return l, err
		}
		l.goroutines[i] = float64(status.Goroutines)
		if h != w.a {
			continue
		}
		for _, m := range status.Machines {
			l.machines[m.Name] = m
		}
	}
	if before {
		err = w.seeProcesses(&l)
	}
	return l, err
}

func (w *world) seeProcesses(l *look) (err error) {
	for i, h := range []*lab.Host{w.a, w.b} {
		if l.usage[i], err = h.Usage(); err != nil {
			return err
		}
	}
	l.sent, err = w.a.Link.Carried()
	l.at = time.Now()
	return err
}

// rates are differences of two looks.
type rates struct {
	time        time.Duration
	checkpoints float64
	shipped     []float64 // bytes of pages and devices, by machine
	cpu         [2]time.Duration
	sent        float64
}

func between(a, b look, names []string) (r rates, err error) {
	r = rates{time: b.at.Sub(a.at), sent: float64(b.sent - a.sent)}
	for _, name := range names {
		before, after := a.machines[name], b.machines[name]
		if before == nil || after == nil || after.Role != "protected" {
			return r, fmt.Errorf("machine %s is not protected any more: %v", name, after)
		}
		r.checkpoints += float64(after.Checkpoints - before.Checkpoints)
		r.shipped = append(r.shipped, float64(after.BytesShipped-before.BytesShipped))
	}
	for i := range r.cpu {
		r.cpu[i] = b.usage[i].CPU - a.usage[i].CPU
	}
	return r, nil
}

// over looks twice, with so much time between.
func (w *world) over(ctx context.Context, d time.Duration) (rates, look, error) {
	before, err := w.see(ctx, true)
	if err != nil {
		return rates{}, before, err
	}
	if err := wait(ctx, d); err != nil {
		return rates{}, before, err
	}
	after, err := w.see(ctx, false)
	if err != nil {
		return rates{}, after, err
	}
	r, err := between(before, after, w.names)
	return r, after, err
}

// parts of checkpoints.
type parts struct {
	pause, commit report.Quantiles // microseconds
	// stops are from the stop to the resume, whole to the commit.
	stops, whole []span
}

func partsOf(events []*control.Event) (p parts) {
	var pauses, commits []time.Duration
	us := func(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }
	for _, e := range events {
		c := e.Checkpoint
		pauses = append(pauses, us(c.PauseUs))
		commits = append(commits, us(c.CommitUs))
		from := time.Unix(0, c.StartedUnixNanos)
		resumed := from.Add(us(c.TotalUs))
		p.stops = append(p.stops, span{from, resumed})
		p.whole = append(p.whole, span{from, resumed.Add(us(c.CommitUs))})
	}
	p.pause, p.commit = report.QuantilesOf(pauses), report.QuantilesOf(commits)
	return p
}
