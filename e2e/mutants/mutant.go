package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mutant is one deliberate break.
type mutant struct {
	name string // what is broken, in words
	file string // from the top of the tree
	// from, which stands in the file exactly once, becomes to.
	from, to string
	// tests are what go test is given: a pattern and packages.
	tests []string
}

// apply returns the broken file.
func (m mutant) apply(text string) (string, error) {
	if n := strings.Count(text, m.from); n != 1 {
		return "", fmt.Errorf("%s has the text to change %d times, want once: %q", m.file, n, m.from)
	}
	return strings.Replace(text, m.from, m.to, 1), nil
}

// try runs the tests against the mutant and names the one that noticed it; none if
// it has survived. A mutant that does not compile is an error: it proves nothing.
func (m mutant) try(ctx context.Context, limit time.Duration) (killedBy string, err error) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(dir)
	if err != nil {
		return "", err
	}
	said, err := m.test(ctx, limit, "-overlay", overlay, "-count", "1", "-failfast")
	if err == nil {
		return "", nil
	}
	return noticed(said)
}

// passes makes sure that the tests notice nothing in the code as it is: one that
// fails anyway would kill every mutant.
func (m mutant) passes(ctx context.Context, limit time.Duration) error {
	if said, err := m.test(ctx, limit); err != nil {
		return fmt.Errorf("the tests %v fail without a mutant: %w\n%s", m.tests, err, said)
	}
	return nil
}

func (m mutant) test(ctx context.Context, limit time.Duration, flags ...string) (said string, err error) {
	args := append([]string{"test", "-timeout", limit.String()}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(append(args, "-run"), m.tests...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// overlay writes the broken file, and the list by which go finds it.
func (m mutant) overlay(dir string) (path string, err error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	broken, err := m.apply(string(text))
	if err != nil {
		return "", err
	}
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	replacement := filepath.Join(dir, "broken.go")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: replacement}})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, errors.Join(os.WriteFile(replacement, []byte(broken), 0o644), os.WriteFile(path, list, 0o644))
}

var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// noticed reads what go test said of a run that failed.
func noticed(said string) (by string, err error) {
	if m := failure.FindStringSubmatch(said); m != nil {
		return m[1], nil
	}
	switch {
	case strings.Contains(said, "[build failed]"), strings.Contains(said, "[setup failed]"):
		return "", fmt.Errorf("the mutant does not compile:\n%s", said)
	case strings.Contains(said, "panic: test timed out"):
		return "a test that hangs", nil
	case strings.Contains(said, "panic: "), strings.Contains(said, "fatal error: "), strings.Contains(said, "FAIL\t"):
		return "the end of the test's process", nil
	}
	return "", fmt.Errorf("go test told nothing that can be read:\n%s", said)
}
