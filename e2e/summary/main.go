// Command summary runs "go test" and ends its output with the number of tests
// that passed, failed and were skipped, and why, and with the slowest ones. Each "--" begins the arguments
// of another run; the summary is of all of them:
//
//	summary -- -race ./proto/... -- -race -p 1 ./e2e/...
//
// A slow machine leaves the race detector out, and the summary says so.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/pace"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, began := newSummary(os.Stdout), time.Now()
	failed := false
	for _, args := range s.leaveRaceOut(groups(os.Args[1:]), settledPace()) {
		if err := s.run(ctx, args); err != nil {
			fmt.Fprintln(os.Stderr, "summary:", err)
			failed = true
		}
	}
	s.print(time.Since(began))
	if failed || !s.passedAll() {
		os.Exit(1)
	}
}

// settledPace is this machine's: one that is only busy for a moment is not slow.
func settledPace() (p pace.Pace) {
	const tries = 5
	for range tries {
		if p = pace.Measure(); !p.Slow() {
			break
		}
	}
	return p
}

func groups(args []string) (all [][]string) {
	for _, arg := range args {
		if arg == "--" {
			all = append(all, nil)
			continue
		}
		if len(all) == 0 {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], arg)
	}
	return all
}

// leaveRaceOut takes the race detector out of the runs on a slow machine: it takes several
// times as long, to build as well, and finds the same on any machine. Runs that were to be
// without it would only repeat some of the others then.
func (s *summary) leaveRaceOut(all [][]string, p pace.Pace) (runs [][]string) {
	if !p.Slow() {
		return all
	}
	isRace := func(arg string) bool { return arg == "-race" }
	for _, args := range all {
		if slices.ContainsFunc(args, isRace) {
			s.leftOut = fmt.Sprintf("left out: the race detector; %v", p)
			runs = append(runs, slices.DeleteFunc(slices.Clone(args), isRace))
		} else if s.leftOut == "" {
			runs = append(runs, args)
		}
	}
	return runs
}

// run one "go test". That it failed is an error too, so that a run which fails
// without naming a test does not pass.
func (s *summary) run(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	// An interrupt lets the tests remove what they made.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = s.read(out)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return fmt.Errorf("go test: %w", err)
	}
	return nil
}

func (s *summary) read(r io.Reader) error {
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				s.take(e)
			} else {
				fmt.Fprintf(s.out, "%s", line)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
