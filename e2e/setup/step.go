//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// grace is what an interrupted command gets to tidy up.
const grace = 10 * time.Second

// step runs a command and shows that it is at work; its output is shown only
// if it fails. An interrupt asks the command and all its children to end.
func step(what string, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	started := time.Now()
	fmt.Printf("setup: %s\n", what)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", what, err, out.Bytes())
			}
			return nil
		case <-tick.C:
			fmt.Printf("setup: ... %s, %.0f s\n", what, time.Since(started).Seconds())
		}
	}
}

// replace writes a file whole, and leaves an equal one alone: a QEMU may be
// starting from it.
func replace(path string, content []byte, mode os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, mode); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func newer(target, source string) bool {
	t, err := os.Stat(target)
	s, err2 := os.Stat(source)
	return errors.Join(err, err2) == nil && t.ModTime().After(s.ModTime())
}

// missing are the files of dir that are not there.
func missing(dir string, files []string) (names []string) {
	for _, name := range files {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			names = append(names, name)
		}
	}
	return names
}

// link makes path a symbolic link at once, whatever was there.
func link(path, target string) error {
	if old, err := os.Readlink(path); err == nil && old == target {
		return nil
	}
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
