// Package saved keeps, in a file for each machine, what a daemon must know of the machines
// that an earlier one left. It says nothing of roles: those the arbiter knows, unless it
// has forgotten them.
package saved

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// State of a machine, as JSON in its file.
type State struct {
	Spec string `json:"spec"`
	// Standby is the host that is to protect the machine; none if empty.
	Standby string `json:"standby,omitempty"`
	// Generation is the last one that this host knew to stand. An arbiter that
	// says an earlier one is not believed.
	Generation uint64 `json:"generation,omitempty"`
	// Taps were made for the machine.
	Taps []string `json:"taps,omitempty"`
	// Limit is the longest detection.limit, in nanoseconds, under which the machine was in
	// pairs of this host.
	Limit time.Duration `json:"limit,omitempty"`
}

const suffix = ".json"

// Directory of the files.
type Directory string

// Path of a machine's file.
func (d Directory) Path(name string) string { return filepath.Join(string(d), name+suffix) }

// Save a machine's state, whole or not at all.
func (d Directory) Save(name string, machine spec.Machine, s State) error {
	text, err := machine.Marshal()
	if err == nil {
		s.Spec = string(text)
		var b []byte
		if b, err = json.Marshal(s); err == nil {
			err = replace(d.Path(name), b)
		}
	}
	if err != nil {
		return fmt.Errorf("save what a later daemon must know of machine %s: %w", name, err)
	}
	return nil
}

// Forget a machine's state; there need not be one.
func (d Directory) Forget(name string) error {
	if err := os.Remove(d.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Names of the machines whose state is saved; none where there is no directory yet. Those
// that could be read are returned with an error, too.
func (d Directory) Names() (names []string, err error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("the saved states of machines cannot be read: %w; see to it that %s is a directory of this daemon's user, and restart the daemon", err, d)
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && spec.IsName(name) {
			names = append(names, name)
		}
	}
	return names, err
}

// Load a machine's state, and its specification. What could be read of the state is
// returned with an error, too.
func (d Directory) Load(name string) (s State, machine spec.Machine, err error) {
	b, err := os.ReadFile(d.Path(name))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err == nil {
		machine, err = s.machine(name)
	}
	if err != nil {
		err = fmt.Errorf("its saved state %s cannot be used: %w", d.Path(name), err)
	}
	return s, machine, err
}

func (s State) machine(name string) (spec.Machine, error) {
	m, err := spec.Parse("saved specification of machine "+name, []byte(s.Spec))
	if err == nil && m.Name != name {
		err = fmt.Errorf("saved specification of machine %s is of machine %s", name, m.Name)
	}
	return m, err
}

// replace writes a file whole or not at all.
func replace(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temporary := path + ".new"
	err := write(temporary, b)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory makes a new name last.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func write(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
