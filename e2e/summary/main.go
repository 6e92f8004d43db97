// Command summary runs "go test" with the arguments after "--" and ends its
// output with the number of tests that passed, failed and were skipped, and
// why.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// event is a line of "go test -json" (cmd/test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type summary struct {
	passed, failed, skipped int
	output                  map[string][]string // of tests that have not ended
	skips, failures         []string
}

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	code, err := run(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	s := &summary{output: map[string][]string{}}
	if err := s.read(out); err != nil {
		return 0, err
	}
	err = cmd.Wait()
	s.print()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text())
			continue
		}
		s.take(e)
	}
	return lines.Err()
}

// take keeps a test's output until it is known whether anybody wants it.
func (s *summary) take(e event) {
	id := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		s.output[id] = append(s.output[id], e.Output)
	case "build-output":
		fmt.Print(e.Output)
	case "pass":
		s.ended(e, id, &s.passed)
	case "fail":
		s.ended(e, id, &s.failed)
		fmt.Print(strings.Join(s.output[id], ""))
		s.failures = append(s.failures, id)
	case "skip":
		s.ended(e, id, &s.skipped)
		if e.Test != "" {
			s.skips = append(s.skips, id+": "+reason(s.output[id]))
		}
	default:
		return
	}
	if e.Action != "output" && e.Action != "build-output" {
		delete(s.output, id)
	}
}

func (s *summary) ended(e event, id string, count *int) {
	if e.Test != "" {
		*count++
		if e.Elapsed > 5 {
			fmt.Printf("  %s %s (%.1f s)\n", e.Action, id, e.Elapsed)
		}
		return
	}
	for _, line := range s.output[id] {
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "FAIL") {
			fmt.Print(line)
		}
	}
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

func (s *summary) print() {
	fmt.Println()
	for _, line := range s.skips {
		fmt.Println("skipped:", line)
	}
	for _, id := range s.failures {
		fmt.Println("failed:", id)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
}
