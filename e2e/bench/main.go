package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

const limit = 40 * time.Minute // for everything

func main() {
	o := options{}
	flag.StringVar(&o.qemu, "qemu", "10.0", "series of QEMU; stock COLO and the floor are driven as 10.0 wants it")
	flag.StringVar(&o.build, "build", "build", "the project's build directory")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of everything, in each of which all take their turn")
	flag.IntVar(&o.checkpoints, "checkpoints", 60, "checkpoints of each in a round")
	flag.DurationVar(&o.interval, "interval", 50*time.Millisecond, "from checkpoint to checkpoint")
	flag.StringVar(&o.rates, "rates", "20,200,1000,5000,20000", "pages that the guest rewrites; none: no pauses are measured")
	flag.StringVar(&o.memories, "memory", "256MiB,2GiB", "RAM of the guest")
	flag.StringVar(&o.parts, "parts", "pauses,takeovers,traffic", "what to measure")
	flag.StringVar(&o.out, "out", "build/bench", "directory for the results")
	again := flag.String("report", "", "make the report of these results.json again and measure nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := o.run(ctx, *again); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	build, out, qemu       string
	rounds, checkpoints    int
	interval               time.Duration
	rates, memories, parts string
}

func (o options) run(ctx context.Context, again string) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	if again != "" {
		r, err := readResults(again)
		if err != nil {
			return err
		}
		return r.report(o.out)
	}
	began := time.Now()
	r := &results{Every: o.interval}
	version, err := output(ctx, scene.QEMUProgram(o.build, o.qemu), "-version")
	if err != nil {
		return err
	}
	fmt.Println("bench:", version)
	err = o.measure(ctx, r)
	if r.Host, _ = describe(ctx, o); err == nil {
		r.Host.When, r.Host.Took = began, time.Since(began)
	}
	return errors.Join(err, r.save(filepath.Join(o.out, "results.json")), r.report(o.out))
}

// measure everything that was asked for.
func (o options) measure(ctx context.Context, r *results) error {
	for _, part := range strings.Split(o.parts, ",") {
		var err error
		switch part {
		case "pauses":
			err = o.measurePauses(ctx, r)
		case "takeovers":
			err = o.measureAllTakeovers(ctx, r)
		case "traffic":
			err = o.measureAllTraffic(ctx, r)
		default:
			err = fmt.Errorf("-parts: %q is none of pauses, takeovers, traffic", part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o options) measurePauses(ctx context.Context, r *results) error {
	for _, memory := range strings.Split(o.memories, ",") {
		for _, text := range strings.Split(o.rates, ",") {
			rate, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("-rates: %w", err)
			}
			c := &cell{Memory: memory, Rate: rate}
			if err := o.measureCell(ctx, c); err != nil {
				return fmt.Errorf("%s, %d pages: %w", memory, rate, err)
			}
			r.Cells = append(r.Cells, c)
			fmt.Printf("%s, %d pages: pause to the floor %v, to stock COLO %v (medians)\n", memory, rate,
				ratio(over(c.Pair, stopped), over(c.Floor, stopped), 0.5), ratio(over(c.Pair, stopped), over(c.Stock, stopped), 0.5))
		}
	}
	return nil
}

func (o options) measureAllTakeovers(ctx context.Context, r *results) error {
	for _, memory := range strings.Split(o.memories, ",") {
		t := &takeovers{Memory: memory}
		if err := o.measureTakeovers(ctx, t); err != nil {
			return fmt.Errorf("takeovers, %s: %w", memory, err)
		}
		r.Takeovers = append(r.Takeovers, t)
		fmt.Printf("%s, from the kill: running %v, first packet %v; stock COLO %v\n", memory, t.Running, t.FirstPacket, t.Stock)
	}
	return nil
}

func (o options) measureAllTraffic(ctx context.Context, r *results) error {
	for _, m := range []struct {
		name string
		set  func(*lab.Protection)
	}{
		{"demand", func(*lab.Protection) {}},
		{"periodic, 20 per second", func(p *lab.Protection) { p.Checkpoint, p.Interval = "periodic", "50ms" }},
	} {
		mode := &trafficMode{Name: m.name}
		if err := o.measureTraffic(ctx, mode, m.set); err != nil {
			return fmt.Errorf("traffic, %s: %w", m.name, err)
		}
		r.Traffic = append(r.Traffic, mode)
		fmt.Printf("traffic, %s: %s\n", m.name, mode.summary())
	}
	return nil
}
