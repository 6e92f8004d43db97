package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// event is a line of "go test -json" (cmd/test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // seconds
}

// slow tests are named as they pass, to show that something happens.
const slow = 5 // seconds

// summary counts, prints what failed or was skipped, and Go's line of each
// package.
type summary struct {
	out                     io.Writer
	passed, failed, skipped int
	broken                  int                 // packages that failed without a failed test
	output                  map[string][]string // of what has not ended
	failedIn                map[string]int      // tests, by package
	skips, failures         []string
	times                   []timed // of tests that no other test is part of
	leftOut                 string  // what this machine is too slow for, but for single tests
}

// timed is what a test took, in seconds.
type timed struct {
	id      string
	seconds float64
}

// shown is how many of the slowest tests the end names.
const shown = 12

func newSummary(out io.Writer) *summary {
	return &summary{out: out, output: map[string][]string{}, failedIn: map[string]int{}}
}

func (s *summary) passedAll() bool { return s.failed == 0 && s.broken == 0 }

// take keeps output until it is known whether anybody wants it.
func (s *summary) take(e event) {
	id := strings.TrimSpace(e.Package + " " + e.Test)
	switch e.Action {
	case "output":
		s.output[id] = append(s.output[id], e.Output)
		return
	case "build-output":
		fmt.Fprint(s.out, e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test == "" {
		s.packageEnded(e, s.output[id])
	} else {
		s.testEnded(e, id, s.output[id])
	}
	delete(s.output, id)
}

func (s *summary) testEnded(e event, id string, output []string) {
	if !strings.Contains(e.Test, "/") {
		s.times = append(s.times, timed{id, e.Elapsed})
	}
	switch e.Action {
	case "pass":
		s.passed++
		if e.Elapsed > slow {
			fmt.Fprintf(s.out, "    %s: passed (%.1f s)\n", id, e.Elapsed)
		}
		return
	case "fail":
		s.failed++
		s.failedIn[e.Package]++
		s.failures = append(s.failures, id)
	case "skip":
		s.skipped++
		s.skips = append(s.skips, id+": "+reason(output))
	}
	for _, line := range output {
		if !strings.HasPrefix(line, "=== ") {
			fmt.Fprint(s.out, line)
		}
	}
}

// packageEnded prints Go's line of the package; all it said, where it failed
// without a test to blame.
func (s *summary) packageEnded(e event, output []string) {
	blameless := e.Action == "fail" && s.failedIn[e.Package] == 0
	if blameless {
		s.broken++
		s.failures = append(s.failures, e.Package)
	}
	for _, line := range output {
		if blameless || ofPackage(line) {
			fmt.Fprint(s.out, line)
		}
	}
}

// ofPackage tells Go's own lines from what tests print outside of any test.
func ofPackage(line string) bool {
	for _, begin := range []string{"ok  \t", "FAIL\t", "?   \t", "panic: ", "WARNING: DATA RACE"} {
		if strings.HasPrefix(line, begin) {
			return true
		}
	}
	return strings.Contains(line, "[no test files]")
}

// reason is what the test said last before it was skipped.
func reason(output []string) string {
	for i := len(output) - 1; i >= 0; i-- {
		line := strings.TrimSpace(output[i])
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			return line
		}
	}
	return "no reason given"
}

// printSlowest tells where the time goes.
func (s *summary) printSlowest() {
	slices.SortStableFunc(s.times, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	for i, t := range s.times {
		if i < shown && t.seconds > slow {
			fmt.Fprintf(s.out, "slowest: %4.0f s  %s\n", t.seconds, t.id)
		}
	}
}

func (s *summary) print(took time.Duration) {
	fmt.Fprintln(s.out)
	s.printSlowest()
	for _, line := range s.skips {
		fmt.Fprintln(s.out, "skipped:", line)
	}
	if s.leftOut != "" {
		fmt.Fprintln(s.out, s.leftOut)
	}
	for _, id := range s.failures {
		fmt.Fprintln(s.out, "failed:", id)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped in %.1f min", s.passed, s.failed, s.skipped, took.Minutes())
	if s.broken > 0 {
		fmt.Fprintf(s.out, "; %d packages did not run to their end", s.broken)
	}
	fmt.Fprintln(s.out)
}
