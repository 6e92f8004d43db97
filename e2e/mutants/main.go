// Command mutants breaks the code on purpose, one place at a time, where the
// invariants rest on it, and runs the tests that should notice. A mutant that no test
// notices has survived: a test is missing. Nothing in the tree is changed: the broken
// file goes to the compiler through an overlay.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	only := flag.String("run", "", "only mutants whose name contains this")
	limit := flag.Duration("timeout", 5*time.Minute, "how long the tests of one mutant may take; one that hangs them is noticed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	survived, err := run(ctx, *only, *limit)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	if err != nil || survived > 0 {
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, limit time.Duration) (survived int, err error) {
	killed := 0
	sound := map[string]bool{}
	for _, m := range mutants {
		if !strings.Contains(m.name, only) {
			continue
		}
		if tests := strings.Join(m.tests, " "); !sound[tests] {
			if err := m.passes(ctx, limit); err != nil {
				return survived, err
			}
			sound[tests] = true
		}
		began := time.Now()
		by, err := m.try(ctx, limit)
		switch {
		case ctx.Err() != nil:
			return survived, ctx.Err()
		case err != nil:
			return survived, fmt.Errorf("%s: %w", m.name, err)
		case by == "":
			survived++
			fmt.Printf("SURVIVED  %s (%s)\n", m.name, m.file)
		default:
			killed++
			fmt.Printf("killed    %s, by %s, %.0f s\n", m.name, by, time.Since(began).Seconds())
		}
	}
	fmt.Printf("mutants: %d killed, %d survived\n", killed, survived)
	return survived, nil
}
