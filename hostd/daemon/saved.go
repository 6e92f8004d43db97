package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/saved"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
)

func (d *Daemon) saved() saved.Directory {
	return saved.Directory(filepath.Join(d.config.StateDir, "machines"))
}

// save what a later daemon must know of the guest.
func (g *guest) save() error {
	g.saving.Lock()
	defer g.saving.Unlock()
	return g.d.saved().Save(g.name, g.spec, saved.State{Standby: g.state.Wanted(), Generation: g.state.Generation(),
		Taps: g.qemu.Taps(), Limit: g.d.voices.Limit(g.name)})
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
	if err := d.saved().Forget(name); err != nil {
		d.log.Error("saved state not removed", "machine", name, "error", err)
	}
}

// leftover is what is found of a machine of an earlier daemon.
type leftover struct {
	saved saved.State
	spec  spec.Machine // its name alone where the rest is unknown
	// unknown says why this daemon does not know what it must know of it.
	unknown error
}

// leftovers are the machines that an earlier daemon has left, by name: those whose
// state was saved, and those of which a QEMU runs.
func (d *Daemon) leftovers() map[string]leftover {
	all := map[string]leftover{}
	names, err := d.saved().Names()
	if err != nil {
		d.log.Error(err.Error())
		d.events.Publish(status.Event{Kind: status.Error, Message: err.Error()})
	}
	for _, name := range names {
		all[name] = d.leftover(name)
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
		all[name] = leftover{spec: spec.Machine{Name: name}, unknown: fmt.Errorf("its QEMU runs, and its saved state %s is missing", d.saved().Path(name))}
	}
}

func (d *Daemon) leftover(name string) leftover {
	state, machine, err := d.saved().Load(name)
	if err != nil {
		return leftover{saved: state, spec: spec.Machine{Name: name}, unknown: err}
	}
	d.voices.Served(name, state.Limit)
	return leftover{saved: state, spec: machine}
}
