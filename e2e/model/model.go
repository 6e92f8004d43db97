// Package model runs spin, the model checker, on a model of the pair and the
// arbiter (docs/model/pair.pml).
package model

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// memoryLimit of a search, in MiB.
const memoryLimit = 1800

// Search is one exhaustive search of a model.
type Search struct {
	Source  string   // of the model
	Defines []string // NAME or NAME=value, for the model
	// Cycles looks for runs that never end as well.
	Cycles bool
}

// Result of a search.
type Result struct {
	Complete bool // every state that can be reached was visited
	States   uint64
	// Violation is the first that was found: an assertion, or a run that does
	// not end. Empty where there is none.
	Violation string
	// Output of the checker.
	Output string
}

// Missing names a program that a search needs and that is not installed; ""
// where all are.
func Missing() string {
	for _, name := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(name); err != nil {
			return name
		}
	}
	return ""
}

// Run searches in a directory, which it fills with files of its own and which
// no other search may use. A violation is a result and not an error.
func (s Search) Run(ctx context.Context, dir string) (Result, error) {
	source, err := filepath.Abs(s.Source)
	if err != nil {
		return Result{}, fmt.Errorf("find the model: %w", err)
	}
	args := []string{"-a"}
	for _, d := range s.Defines {
		args = append(args, "-D"+d)
	}
	if _, err := run(ctx, dir, "spin", append(args, source)...); err != nil {
		return Result{}, err
	}
	if _, err := run(ctx, dir, "gcc", append(s.compilerFlags(), "-o", "pan", "pan.c")...); err != nil {
		return Result{}, err
	}
	out, err := run(ctx, dir, filepath.Join(dir, "pan"), s.searchFlags()...)
	if err != nil {
		return Result{Output: out}, err
	}
	return read(out), nil
}

// compilerFlags choose what the search looks for; a model of this size needs
// little else.
func (s Search) compilerFlags() []string {
	flags := []string{"-O1", "-w", "-DNOFAIR", fmt.Sprintf("-DMEMLIM=%d", memoryLimit)}
	if s.Cycles {
		return append(flags, "-DNP", "-DNOSTUTTER")
	}
	return append(flags, "-DSAFETY", "-DCOLLAPSE")
}

// searchFlags: depth, and a table of 2^24 slots.
func (s Search) searchFlags() []string {
	flags := []string{"-m100000", "-w24"}
	if s.Cycles {
		return append(flags, "-l")
	}
	return flags
}

func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

var (
	violationLine = regexp.MustCompile(`(?m)^pan:\d+: (.*) \(at depth \d+\)$`)
	errorsLine    = regexp.MustCompile(`(?m)errors: (\d+)$`)
	statesLine    = regexp.MustCompile(`(?m)^ *(\d+) states, stored`)
)

// incomplete is what the checker says when it has not seen everything.
var incomplete = []string{"Search not completed", "max search depth too small", "truncated", "out of memory", "reached -DMEMLIM", "Bit statespace"}

// read the checker's report (spin's manual, "Pan output format"). What it does
// not understand is not complete.
func read(out string) Result {
	r := Result{Output: out}
	if m := violationLine.FindStringSubmatch(out); m != nil {
		r.Violation = m[1]
	}
	states := statesLine.FindStringSubmatch(out)
	errors := errorsLine.FindStringSubmatch(out)
	if states == nil || errors == nil {
		return r
	}
	r.States, _ = strconv.ParseUint(states[1], 10, 64) // digits
	if errors[1] != "0" && r.Violation == "" {
		r.Violation = "errors: " + errors[1]
	}
	r.Complete = r.Violation == "" && strings.Contains(out, "Full statespace search")
	for _, words := range incomplete {
		r.Complete = r.Complete && !strings.Contains(out, words)
	}
	return r
}
