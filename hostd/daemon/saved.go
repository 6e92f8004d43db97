package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
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
	// Limit is the longest detection.limit, in nanoseconds, under which the machine was in
	// pairs of this host.
	Limit time.Duration `json:"limit,omitempty"`
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
		b, err = json.Marshal(saved{Spec: string(text), Standby: g.state.Wanted(), Generation: g.state.Generation(), Taps: g.qemu.Taps(), Limit: g.d.voices.Limit(g.name)})
		if err == nil {
			err = replaceFile(g.d.savedPath(g.name), b)
		}
	}
	if err != nil {
		return fmt.Errorf("save what a later daemon must know of machine %s: %w", g.name, err)
	}
	return nil
}

// saveRetry is how long a state that could not be saved waits for the next try.
const saveRetry = time.Second

// saveChange is save where the machine runs already: it runs on, and its status warns
// until the state is saved after all. One waits to try again, for all.
func (g *guest) saveChange() {
	for {
		err := g.save()
		g.noteUnsaved(err)
		if err == nil || g.resaving.Swap(true) {
			return
		}
		select {
		case <-time.After(saveRetry):
		case <-g.ctx.Done():
			return
		}
		g.resaving.Store(false) // what fails from here on is tried again by others
	}
}

// saveSoon returns when a later daemon knows what this one does, or would know it if the
// disk were quicker: a daemon that dies right after an operator's command has kept it.
func (g *guest) saveSoon(ctx context.Context) {
	saved := make(chan struct{})
	g.task(func() {
		defer close(saved)
		g.saveChange()
	})
	limit := time.NewTimer(saveRetry)
	defer limit.Stop()
	select {
	case <-saved:
	case <-limit.C:
	case <-g.ctx.Done():
	case <-ctx.Done():
	}
}

func (g *guest) noteUnsaved(err error) {
	why := ""
	if err != nil {
		why = err.Error() + "; it runs on, and a daemon that restarts now knows it as it was before: make room in state-dir, or make it writable"
	}
	if g.state.SetUnsaved(why) && err != nil {
		g.log.Error("state not saved", "error", err)
		g.publish(status.Event{Kind: status.Error, Message: why})
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

func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// leftover is what is found of a machine of an earlier daemon.
type leftover struct {
	saved saved
	spec  spec.Machine // its name alone where the rest is unknown
	// unknown says why this daemon does not know what it must know of it.
	unknown error
}

// leftovers are the machines that an earlier daemon has left, by name: those whose
// state was saved, and those of which a QEMU runs.
func (d *Daemon) leftovers() map[string]leftover {
	all := map[string]leftover{}
	entries, err := os.ReadDir(d.machinesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		why := fmt.Sprintf("the saved states of machines cannot be read: %v; see to it that %s is a directory of this daemon's user, and restart the daemon", err, d.machinesDir())
		d.log.Error(why)
		d.events.Publish(status.Event{Kind: status.Error, Message: why})
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), savedSuffix); ok && spec.IsName(name) {
			all[name] = d.leftover(name)
		}
	}
	d.addRunning(all)
	return all
}

// addRunning adds machines whose QEMU has its monitor here, and of which nothing else
// is known.
func (d *Daemon) addRunning(all map[string]leftover) {
	paths, _ := filepath.Glob(filepath.Join(d.config.RunDir, "*"+machine.MonitorSuffix)) // the pattern is good
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), machine.MonitorSuffix)
		if _, known := all[name]; known || !spec.IsName(name) || !machine.Listens(path) {
			continue
		}
		all[name] = leftover{spec: spec.Machine{Name: name}, unknown: fmt.Errorf("its QEMU runs, and its saved state %s is missing", d.savedPath(name))}
	}
}

func (d *Daemon) leftover(name string) leftover {
	l := leftover{spec: spec.Machine{Name: name}}
	b, err := os.ReadFile(d.savedPath(name))
	if err == nil {
		err = json.Unmarshal(b, &l.saved)
	}
	var m spec.Machine
	if err == nil {
		m, err = l.saved.machine(name)
	}
	if err != nil {
		l.unknown = fmt.Errorf("its saved state %s cannot be used: %w", d.savedPath(name), err)
		return l
	}
	l.spec = m
	d.voices.Served(name, l.saved.Limit)
	return l
}

func (s saved) machine(name string) (spec.Machine, error) {
	m, err := spec.Parse("saved specification of machine "+name, []byte(s.Spec))
	if err == nil && m.Name != name {
		err = fmt.Errorf("saved specification of machine %s is of machine %s", name, m.Name)
	}
	return m, err
}
