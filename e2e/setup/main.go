// Command setup brings what the lab needs that a fresh machine lacks: Debian
// packages, a QEMU whose COLO is right, and the shim that it needs under TCG.
// A second run finds all of it and takes a moment.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	build := flag.String("build", "build", "the project's build directory")
	shim := flag.String("shim", "e2e/lab/shim/shim.c", "source of the shim")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
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
	if err := packages(ctx); err != nil {
		return err
	}
	if err := installQEMU(ctx, build); err != nil {
		return err
	}
	if err := compileShim(ctx, build, shim); err != nil {
		return err
	}
	version, err := wrapper(ctx, build)
	if err != nil {
		return err
	}
	fmt.Printf("setup: %s, ready after %.1f s\n", version, time.Since(started).Seconds())
	return nil
}
