// Command scale measures how two daemons fare with many machines whose QEMUs
// are false, and holds the model of docs/scale.md against it. It needs root, and
// what "make build" makes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
)

// limit of the whole run.
const limit = 3 * time.Minute

// options of a run.
type options struct {
	build, hostd, report string
	machines             []int
	only                 []string
	window               time.Duration
}

func main() {
	o := options{machines: []int{1, 10, 50, 100, 200}}
	flag.StringVar(&o.build, "build", "build", "the project's build directory")
	flag.StringVar(&o.hostd, "hostd", "", "the daemon to measure (default: that of the build directory)")
	flag.StringVar(&o.report, "report", "build/scale/scale.md", "where the tables go")
	flag.DurationVar(&o.window, "window", 3*time.Second, "how long to look at one number of machines")
	flag.Func("machines", "numbers of machines, ascending (default 1,10,50,100,200)", o.setMachines)
	flag.Func("only", "parts to measure, of "+strings.Join(names(), ", ")+" (default all)", func(s string) error {
		o.only = strings.Split(s, ",")
		return nil
	})
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func (o *options) setMachines(s string) error {
	o.machines = nil
	for _, word := range strings.Split(s, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || len(o.machines) > 0 && n <= o.machines[len(o.machines)-1] {
			return fmt.Errorf("%q: want numbers that ascend", s)
		}
		o.machines = append(o.machines, n)
	}
	return nil
}

// part of the report, in a world of its own.
type part struct {
	name    string
	measure func(context.Context, *world, options, io.Writer) error
}

func measured() []part {
	return []part{{"machines", measureMachines}, {"spread", measureSpread}, {"idle", measureIdle}, {"fair", measureFairness}, {"model", measureModel}}
}

func names() (all []string) {
	for _, p := range measured() {
		all = append(all, p.name)
	}
	return all
}

func run(ctx context.Context, o options) error {
	if o.hostd == "" {
		o.hostd = filepath.Join(o.build, "bin/hostd")
	}
	if _, err := lab.Sweep(); err != nil {
		return fmt.Errorf("remove what an earlier lab left: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(o.report), 0o755); err != nil {
		return err
	}
	file, err := os.Create(o.report)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, p := range measured() {
		if len(o.only) > 0 && !slices.Contains(o.only, p.name) {
			continue
		}
		if err := p.run(ctx, o, io.MultiWriter(os.Stdout, file)); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return file.Close()
}

func (p part) run(ctx context.Context, o options, to io.Writer) (err error) {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return p.measure(ctx, w, o, to)
}
