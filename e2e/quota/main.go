//go:build linux

// Command quota runs a command with a part of this machine's processors, to see
// what a slower machine would make of it:
//
//	quota 50% make test
//
// The command and all that it starts go into a control group of their own, which
// is removed afterwards. It needs root, and the control group file system of the
// kernel's version 1 or 2 with the controller cpu.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "quota:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run returns the command's exit code.
func run(args []string) (code int, err error) {
	if len(args) < 2 {
		return 2, errors.New("say how much and of what: quota 50% make test")
	}
	part, err := percent(args[0])
	if err != nil {
		return 2, err
	}
	g, err := newGroup("/sys/fs/cgroup", fmt.Sprintf("stillpoint-quota-%d", os.Getpid()))
	if err != nil {
		return 1, err
	}
	if err := g.limit(period * runtime.NumCPU() * part / 100); err != nil {
		return 1, errors.Join(err, g.remove())
	}
	fmt.Printf("quota: %d%% of %d processors\n", part, runtime.NumCPU())
	code, err = g.run(args[1:])
	return code, errors.Join(err, g.remove())
}

func percent(text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil || n < 1 || n > 100 {
		return 0, fmt.Errorf("%q: want 1%% to 100%%", text)
	}
	return n, nil
}

// period in microseconds, in each of which the quota is given out.
const period = 100_000

// group is a control group for processor time.
type group struct {
	dir, parent string
	two         bool // of version 2
}

// newGroup makes one, where the system has its control groups.
func newGroup(root, name string) (g group, err error) {
	switch {
	case exists(filepath.Join(root, "cgroup.controllers")):
		g = group{parent: root, two: true}
		// The controller may be on already; if it is not there, limit tells.
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+cpu"), 0o644)
	case exists(filepath.Join(root, "cpu", "cpu.cfs_quota_us")):
		g = group{parent: filepath.Join(root, "cpu")}
	default:
		return g, fmt.Errorf("no control groups with the controller cpu in %s", root)
	}
	g.dir = filepath.Join(g.parent, name)
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return g, fmt.Errorf("make a control group: %w", err)
	}
	return g, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// limit gives it so many microseconds of processor time in each period.
func (g group) limit(quota int) error {
	if g.two {
		return g.write("cpu.max", fmt.Sprintf("%d %d", quota, period))
	}
	return errors.Join(g.write("cpu.cfs_period_us", strconv.Itoa(period)), g.write("cpu.cfs_quota_us", strconv.Itoa(quota)))
}

func (g group) write(file, text string) error {
	if err := os.WriteFile(filepath.Join(g.dir, file), []byte(text), 0o644); err != nil {
		return fmt.Errorf("limit a control group: %w", err)
	}
	return nil
}

// run has this process join the group, so that the command and its children are
// in it from their first instruction on, and leave it at the end.
func (g group) run(args []string) (code int, err error) {
	if err := g.write("cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		return 1, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() { // an interrupt from the terminal reaches the command by itself, too
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s)
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// remove takes the group away, and fails where something of the command still
// runs in it.
func (g group) remove() error {
	if err := os.WriteFile(filepath.Join(g.parent, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return fmt.Errorf("leave the control group: %w", err)
	}
	if err := syscall.Rmdir(g.dir); err != nil {
		left, _ := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
		return fmt.Errorf("remove %s: %w; processes left in it: %s", g.dir, err, strings.Join(strings.Fields(string(left)), " "))
	}
	return nil
}
