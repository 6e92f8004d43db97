// Command fuzz runs the project's fuzz targets one after the other, for a set time
// each, and tells of each how many inputs it tried and found. A failing input stays
// in the target's testdata, as go test leaves it; the others are tried all the same.
//
// With -keep, inputs that reached new code go to testdata as well, the shortest
// first, up to a bound for each target: so the corpus in the repository grows, and
// every run of the tests tries it.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// minimise bounds how many tries go into making one interesting input shorter. By
// default go test takes a minute for that, which is all of a short run.
const minimise = "32x"

func main() {
	each := flag.Duration("time", 5*time.Second, "how long each target is fuzzed")
	keep := flag.Int("keep", 0, "let the corpus of each target in testdata grow to this many inputs")
	only := flag.String("run", "", "only targets whose name contains this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	ok, err := run(ctx, flag.Args(), *only, *each, *keep)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, roots []string, only string, each time.Duration, keep int) (ok bool, err error) {
	targets, err := find(roots)
	if err != nil {
		return false, err
	}
	cache, err := output(ctx, "go", "env", "GOCACHE")
	if err != nil {
		return false, err
	}
	ran, kept, failed := 0, 0, 0
	for _, t := range targets {
		if !strings.Contains(t.name, only) || ctx.Err() != nil {
			continue
		}
		ran++
		said, err := fuzz(ctx, t, each)
		grown := 0
		if err != nil {
			failed++
			fmt.Print(said)
		} else if grown, err = t.grow(ctx, cache, keep); err != nil {
			return false, err
		}
		kept += grown
		fmt.Printf("fuzz: %s %s: %s, %d kept\n", t.dir, t.name, progress(said), grown)
	}
	fmt.Printf("fuzz: %d targets, %d inputs kept, %d failed\n", ran, kept, failed)
	return failed == 0, ctx.Err()
}

// fuzz runs one target, and returns what go test said.
func fuzz(ctx context.Context, t target, each time.Duration) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$",
		"-fuzztime", each.String(), "-fuzzminimizetime", minimise, "./"+t.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	return said.String(), err
}

// grow copies inputs that go test keeps in its cache to the target's testdata.
func (t target) grow(ctx context.Context, cache string, most int) (int, error) {
	if most == 0 {
		return 0, nil
	}
	path, err := output(ctx, "go", "list", "./"+t.dir)
	if err != nil {
		return 0, err
	}
	found, err := inputs(filepath.Join(cache, "fuzz", path, t.name))
	if err != nil {
		return 0, err
	}
	corpus := filepath.Join(t.dir, "testdata", "fuzz", t.name)
	known, err := inputs(corpus)
	if err != nil {
		return 0, err
	}
	chosen := choose(found, known, most)
	for _, in := range chosen {
		if err := os.MkdirAll(corpus, 0o755); err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(corpus, in.name), in.data, 0o644); err != nil {
			return 0, err
		}
	}
	return len(chosen), nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	b, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(b)), nil
}
