//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// loadModules in the order of their names.
func loadModules(dir string) error {
	found, err := filepath.Glob(filepath.Join(dir, "*.ko")) // sorted
	if err != nil {
		return err
	}
	for _, name := range found {
		if err := load(name); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

func load(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
