package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/falseqemu"
)

// large machine, whose memory holds the largest epoch of the model.
func large(pages int, interval time.Duration) kind {
	return kind{falseqemu.Guest{Seed: seedPages, Dirty: pages, Device: deviceBytes}, "64MiB", interval}
}

// trial is one machine on one link.
type trial struct {
	load
	fitted   bool // the costs are learned from it
	measured struct {
		pause, commit time.Duration
		bandwidth     float64
	}
}

// trials of the model: costs are learned from the smallest and the largest
// epoch on a link without limits, and foretell the others.
func trials() []*trial {
	const epoch = 250 * time.Millisecond
	const shaped = 40 << 20 // the lab's links take 5 ms of their rate at once
	var all []*trial
	for _, pages := range []int{20, 200, 1000, 5000} {
		all = append(all, &trial{load: load{pages: pages, device: deviceBytes, epoch: epoch}, fitted: pages == 20 || pages == 5000})
	}
	for _, pages := range []int{200, 1000} {
		all = append(all, &trial{load: load{pages: pages, device: deviceBytes, epoch: epoch, link: shaped, burst: shaped / 200}})
	}
	return append(all, &trial{load: load{pages: 20, device: deviceBytes, epoch: epoch, rtt: 20 * time.Millisecond}})
}

// measureModel holds the model against single machines.
func measureModel(ctx context.Context, w *world, o options, to io.Writer) error {
	all := trials()
	for _, t := range all {
		if err := w.try(ctx, t, o.window/2); err != nil {
			return err
		}
	}
	c := learn(all)
	t := table{title: "The model: foretold and measured, medians",
		head: []string{"pages", "link MiB/s", "round trip", "pause ms: foretold", "measured", "error", "commit ms: foretold", "measured", "error", "MiB/s: foretold", "measured", "error"}}
	for _, x := range all {
		e := c.expect(x.load)
		link := linkName(uint64(x.link))
		label := fmt.Sprint(x.pages)
		if x.fitted {
			label += " (learned from)"
		}
		t.add(label, link, fmt.Sprintf("%v ms", ms(x.rtt)), ms(e.pause), ms(x.measured.pause), off(ms(e.pause), ms(x.measured.pause)),
			ms(e.commit), ms(x.measured.commit), off(ms(e.commit), ms(x.measured.commit)),
			e.bandwidth/mib, x.measured.bandwidth/mib, off(e.bandwidth, x.measured.bandwidth))
	}
	if err := t.write(to); err != nil {
		return err
	}
	_, err := fmt.Fprintf(to, "Learned: pause %.2f ms and %.2f us for each page, commit %.2f ms and %.2f us, %.3f bytes on the wire for each byte of pages and devices.\n",
		c.pause.at*1e3, c.pause.slope*1e6, c.commit.at*1e3, c.commit.slope*1e6, all[0].wire)
	return err
}

// try runs one machine on one link.
func (w *world) try(ctx context.Context, t *trial, d time.Duration) error {
	if err := w.grow(ctx, 1, large(t.pages, t.epoch)); err != nil {
		return err
	}
	if err := w.Link.Rate(uint64(t.link)); err != nil {
		return err
	}
	if err := w.Link.Delay(t.rtt / 2); err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	r, _, err := w.over(ctx, d)
	if err != nil {
		return err
	}
	events, err := w.checkpoints(ctx, d)
	if err != nil {
		return err
	}
	p := partsOf(events)
	t.measured.pause, t.measured.commit = seconds(p.pause.P50/1e6), seconds(p.commit.P50/1e6)
	t.measured.bandwidth = r.sent / r.time.Seconds()
	t.wire = r.sent / sum(r.shipped)
	return w.rest(ctx)
}

// rest ends the machines on a link as it was.
func (w *world) rest(ctx context.Context) error {
	if err := w.Link.Restore(); err != nil {
		return err
	}
	return w.shrink(ctx)
}

// learn costs from the trials that are for it, and gives all trials the median of
// the wire's ratios: an epoch that is half sent when looked at spoils one.
func learn(all []*trial) (c costs) {
	var pages, pauses, commits []float64
	var wires []float64
	for _, t := range all {
		wires = append(wires, t.wire)
		if t.fitted {
			pages = append(pages, float64(t.pages))
			pauses = append(pauses, t.measured.pause.Seconds())
			commits = append(commits, t.measured.commit.Seconds())
		}
	}
	slices.Sort(wires)
	for _, t := range all {
		t.wire = wires[len(wires)/2]
	}
	return costs{pause: fit(pages, pauses), commit: fit(pages, commits)}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// off is how far a foretold value is from the measured.
func off(foretold, measured float64) string {
	if measured == 0 {
		return ""
	}
	return fmt.Sprintf("%+d%%", int(math.Round((foretold-measured)/measured*100)))
}
