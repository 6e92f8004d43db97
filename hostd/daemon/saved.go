package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stillpoint-ft/stillpoint/hostd/spec"
)

// saved is what a daemon must know of a machine that an earlier one left. It
// says nothing of roles: those the arbiter knows, unless it has forgotten them.
type saved struct {
	Spec string `json:"spec"`
	// Standby is the host that is to protect the machine; none if empty.
	Standby string `json:"standby,omitempty"`
	// Generation is the last one that this host knew to stand. An arbiter that
	// says an earlier one is not believed.
	Generation uint64 `json:"generation,omitempty"`
	// Taps were made for the machine.
	Taps []string `json:"taps,omitempty"`
}

const savedSuffix = ".json"

func (d *Daemon) machinesDir() string { return filepath.Join(d.config.StateDir, "machines") }

func (d *Daemon) savedPath(name string) string {
	return filepath.Join(d.machinesDir(), name+savedSuffix)
}

// save what a later daemon must know of the guest.
func (g *guest) save() error {
	g.saving.Lock()
	defer g.saving.Unlock()
	text, err := g.spec.Marshal()
	if err == nil {
		var b []byte
		b, err = json.Marshal(saved{Spec: string(text), Standby: g.board.wanted(), Generation: g.board.generation(), Taps: g.qemu.Taps()})
		if err == nil {
			err = replaceFile(g.d.savedPath(g.name), b)
		}
	}
	if err != nil {
		return fmt.Errorf("save what a later daemon must know of machine %s: %w", g.name, err)
	}
	return nil
}

// saveChange is save where the machine runs already: it then runs on, and a
// later daemon knows it as it was.
func (g *guest) saveChange() {
	if err := g.save(); err != nil {
		g.log.Error("state not saved", "error", err)
	}
}

func (d *Daemon) forgetSaved(name string) {
	if err := os.Remove(d.savedPath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Error("saved state not removed", "machine", name, "error", err)
	}
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temporary := path + ".new"
	err := writeFile(temporary, b)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
	}
	return err
}

func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// savedMachines are those that an earlier daemon has left, by name. A file that
// cannot be read is reported and left alone.
func (d *Daemon) savedMachines() map[string]saved {
	paths, _ := filepath.Glob(filepath.Join(d.machinesDir(), "*"+savedSuffix)) // the pattern is good
	all := map[string]saved{}
	for _, path := range paths {
		var s saved
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		if err != nil {
			d.log.Error("machine of an earlier daemon is left alone: its file cannot be read", "file", path, "error", err)
			continue
		}
		all[strings.TrimSuffix(filepath.Base(path), savedSuffix)] = s
	}
	return all
}

func (s saved) machine(name string) (spec.Machine, error) {
	m, err := spec.Parse("saved specification of machine "+name, []byte(s.Spec))
	if err == nil && m.Name != name {
		err = fmt.Errorf("saved specification of machine %s is of machine %s", name, m.Name)
	}
	return m, err
}
