//go:build linux

// Command setup brings what the lab needs that a fresh machine lacks: Debian
// packages, the two series of QEMU whose COLO is right, and the shim that the
// older one needs under TCG.
// A second run finds all of it and takes a moment. It needs root only where
// something is missing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	build := flag.String("build", "build", "the project's build directory")
	shim := flag.String("shim", "e2e/lab/shim/shim.c", "source of the shim")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, *build, *shim); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, build, shim string) error {
	started := time.Now()
	build, err := filepath.Abs(build)
	if err != nil {
		return err
	}
	for _, dir := range []string{"bin", "cache"} {
		if err := os.MkdirAll(filepath.Join(build, dir), 0o755); err != nil {
			return err
		}
	}
	unlock, err := lock(filepath.Join(build, "cache", ".setup"))
	if err != nil {
		return err
	}
	defer unlock()
	if err := packages(ctx); err != nil {
		return err
	}
	library := filepath.Join(build, "cache", "shim.so")
	if err := compileShim(ctx, library, shim); err != nil {
		return err
	}
	versions, err := installQEMUs(ctx, build, library)
	if err != nil {
		return err
	}
	fmt.Printf("setup: QEMU %s, by default %s; ready after %.1f s\n", strings.Join(versions, " and "), defaultSeries, time.Since(started).Seconds())
	return nil
}

// lock lets one set-up at a time work in a build directory.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return func() { f.Close() }, nil
	}
	fmt.Println("setup: waiting for another set-up to end")
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
