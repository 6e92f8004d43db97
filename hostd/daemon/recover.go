package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/saved"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/hostd/voice"
)

const (
	recoverLimit = 30 * time.Second
	recoverRetry = time.Second
	// adoptTries is how often a QEMU may fail to be adopted before an operator has
	// to look at it.
	adoptTries = 10
)

// errForgot says that nothing may be concluded from what the arbiter says.
var errForgot = errors.New("the arbiter has lost what it granted")

// earlier is a machine of an earlier daemon, from when this one finds it until it is
// adopted or ended. Whoever tries either has reserved its name.
type earlier struct {
	saved saved.State
	spec  spec.Machine
	// unknown says why the specification has only its name: no QEMU is ended or adopted
	// without an operator's word then.
	unknown error

	decided bool // by an operator: what the arbiter says stands

	mu     sync.Mutex
	pid    int                // of its QEMU, 0 if not known
	cancel context.CancelFunc // of the try under way
}

// trying notes how a try can be ended.
func (l *earlier) trying(cancel context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
}

// interrupt ends the try under way: an operator's call has better to do.
func (l *earlier) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel != nil {
		l.cancel()
	}
}

func (l *earlier) found(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pid = pid
}

func (l *earlier) foundPid() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pid
}

// recover takes care of the machines that an earlier daemon left. They are
// silent until the arbiter has said whose voice it is.
func (d *Daemon) recover() {
	for _, l := range d.leftovers() {
		g := d.newLeft(l)
		d.add(g)
		if l.unknown != nil {
			g.waits(unknownMachine(g.name, l.unknown))
			continue
		}
		d.tasks.Go(func() { d.keepRecovering(g) })
	}
}

func (d *Daemon) newLeft(l leftover) *guest {
	g := d.newGuest(l.spec)
	g.earlier = &earlier{saved: l.saved, spec: l.spec, unknown: l.unknown}
	g.state.SetRole(status.Left, l.saved.Generation)
	g.state.Want(l.saved.Standby)
	return g
}

// unknownMachine says what an operator can do with a machine that this daemon knows
// too little of: it ends none for that.
func unknownMachine(name string, why error) error {
	return fmt.Errorf("%w. \"hostd vm start\" with the specification that machine %s was started with lets it go on, \"hostd vm stop %s\" ends it and removes what was saved", why, name, name)
}

// keepRecovering tries until the machine is adopted or ended. It gives up where
// that does not depend on the arbiter and fails again and again.
func (d *Daemon) keepRecovering(g *guest) {
	for failed := 0; failed < adoptTries; {
		done, err := d.recoverOnce(g)
		if done {
			return
		}
		if !errors.As(err, new(reservedError)) { // else it was not tried
			g.waits(err)
			failed += adoptFailure(err)
		}
		select {
		case <-time.After(recoverRetry):
		case <-g.ctx.Done():
			return
		}
	}
	g.leaveAlone()
}

// leaveAlone says that what is wrong does not mend itself.
func (g *guest) leaveAlone() {
	why := g.state.LastFailure()
	g.log.Error("machine of an earlier daemon is left as it is, silent; vm stop ends it, vm start tries to adopt it again", "tries", adoptTries, "error", why)
	g.waits(fmt.Errorf("%s; it has failed %d times and is not tried again: \"hostd vm start\" with the machine's specification tries once more, \"hostd vm stop %s\" ends it", why, adoptTries, g.name))
}

// adoptFailure counts a try that failed, unless that depends on the arbiter.
func adoptFailure(err error) int {
	if errors.As(err, new(arbiterError)) || errors.Is(err, errForgot) {
		return 0
	}
	return 1
}

// recoverOnce tries once, unless a call is at the machine just now.
func (d *Daemon) recoverOnce(g *guest) (done bool, err error) {
	release, err := d.reserve(g.name)
	if err != nil {
		return d.find(g.name) != g, err
	}
	defer release()
	if g.ctx.Err() != nil || d.find(g.name) != g {
		return true, nil
	}
	return d.tryRecover(g)
}

// waits tells why a machine of an earlier daemon has not been adopted: once as an
// event, and in its status.
func (g *guest) waits(err error) {
	g.log.Warn("machine of an earlier daemon waits, silent", "error", err)
	if g.state.LastFailure() == err.Error() {
		return
	}
	g.state.SetFailure(err.Error())
	kind := status.Error
	if errors.As(err, new(arbiterError)) || errors.Is(err, errForgot) {
		kind = status.Arbiter
	}
	g.publish(status.Event{Kind: kind, Message: "a machine of an earlier daemon waits, silent: " + err.Error()})
}

// arbiterError says that the arbiter was to answer, and has not.
type arbiterError struct{ error }

func (e arbiterError) Unwrap() error { return e.error }

// tryRecover adopts the machine if this host has its voice, and ends it if another
// one has it.
func (d *Daemon) tryRecover(g *guest) (done bool, err error) {
	l := g.earlier
	ctx, cancel := context.WithTimeout(g.ctx, recoverLimit)
	defer cancel()
	l.trying(cancel)
	defer l.trying(nil)
	o := d.machineOptions(l.spec, false, g.log)
	o.Same = l.unknown != nil
	qemu, err := d.hypervisor.Find(o, l.saved.Taps)
	gone := errors.Is(err, machine.ErrNotRunning)
	if err != nil && !gone {
		return false, err
	}
	l.found(qemu.Pid())
	stands, err := d.standing(ctx, g)
	if err == nil && !gone && mine(stands, d.config.Host, l) {
		if err = d.adopt(ctx, g, qemu, stands); err == nil {
			return true, nil
		}
		if errors.Is(err, capture.ErrNeverRan) {
			return d.loseLeft(ctx, g)
		}
	} else if err == nil && l.decided && !gone && stands.Voice != "" {
		err = fmt.Errorf("%s has the voice (generation %d); machine %s stays here, silent", voiceOf(stands), stands.Generation, g.name)
	} else if err == nil {
		qemu.Remove()
		d.endLeft(g)
		d.reportLeft(g.name, stands, gone)
		return true, nil
	}
	qemu.Release() // QEMU serves one monitor at a time, and the next try needs it
	return false, err
}

// standing is the record by which to decide. One that is older than what this host
// knows, or none at all, says only that the arbiter is not the one that granted it:
// an operator decides then.
func (d *Daemon) standing(ctx context.Context, g *guest) (arbiter.Record, error) {
	stands, err := d.voices.Current(ctx, g.name)
	if err != nil {
		return stands, arbiterError{fmt.Errorf("ask the arbiter who speaks for machine %s: %w", g.name, err)}
	}
	stands.Machine = g.name
	if known := g.earlier.saved.Generation; voice.Forgot(stands, known) && !g.earlier.decided {
		return stands, fmt.Errorf("%w: it says generation %d, and granted %d before; see to it that the arbiter is the right one and has its data. "+
			"If that is lost for good, and no other host runs machine %s: \"hostd vm start\" here lets it go on, \"hostd vm stop %s\" ends it",
			errForgot, stands.Generation, max(known, 1), g.name, g.name)
	}
	return stands, nil
}

// mine reports whether this host may claim to go on with the machine. Where nobody
// has the voice, an operator decides so only if the arbiter has forgotten: another
// host may have spoken since, before the machine was stopped there.
func mine(stands arbiter.Record, host string, l *earlier) bool {
	return stands.Voice == host || l.decided && stands.Voice == "" && voice.Forgot(stands, l.saved.Generation)
}

// endLeft forgets a machine of an earlier daemon of which nothing is left.
func (d *Daemon) endLeft(g *guest) {
	g.end()
	d.forgetSaved(g.name)
	d.forget(g.name)
}

func (d *Daemon) reportLeft(name string, stands arbiter.Record, gone bool) {
	e := status.Event{Machine: name, Kind: status.Fenced, Generation: stands.Generation,
		Message: fmt.Sprintf("what an earlier daemon left was ended: %s has the voice", voiceOf(stands))}
	if gone && stands.Voice == d.config.Host {
		e.Kind, e.Message = status.MachineLost, "QEMU ended while no daemon was there; start the machine again, unless its standby takes over"
	}
	d.log.Warn("a machine of an earlier daemon does not run here any more", "machine", name, "what", e.Kind, "why", e.Message)
	d.events.Publish(e)
}

func voiceOf(r arbiter.Record) string {
	if r.Voice == "" {
		return "nobody"
	}
	return "host " + r.Voice
}

// adopt takes a running QEMU over from an earlier daemon. The voice is claimed once
// everything that is needed to go on has been reached.
func (d *Daemon) adopt(ctx context.Context, old *guest, qemu QEMU, stands arbiter.Record) error {
	if err := qemu.Connect(ctx); err != nil {
		return err
	}
	version, err := qemu.Monitor().QueryVersion(ctx)
	if err != nil {
		return fmt.Errorf("ask the QEMU of machine %s for its version: %w", old.name, err)
	}
	g := d.newGuest(old.spec)
	g.qemu = qemu
	g.state.Want(old.earlier.saved.Standby)
	g.state.SetQEMU(version.String())
	if err := g.attach(); err != nil {
		g.end()
		return err
	}
	grant, err := d.voices.Alone(ctx, stands)
	if err != nil {
		g.leave()
		return arbiterError{fmt.Errorf("claim the voice of machine %s: %w", old.name, err)}
	}
	old.earlier.saved.Generation = grant.Generation
	if err := capture.Free(ctx, qemu.Monitor()); err != nil {
		g.leave()
		return err
	}
	g.live(grant, old.earlier.saved.Standby != "")
	g.want(old.earlier.saved.Standby)
	g.task(g.saveChange)
	old.end()
	g.publish(status.Event{Kind: status.Adopted, Message: fmt.Sprintf("QEMU (process %d) of an earlier daemon goes on", qemu.Pid())})
	return nil
}

// startLeft is an operator's decision that a machine of an earlier daemon goes on
// here, whatever the arbiter has forgotten. It returns nil without an error if QEMU has
// ended, so that nothing is left. The specification counts where nothing was saved
// that can be used. The caller has reserved the machine's name.
func (d *Daemon) startLeft(g *guest, s spec.Machine) (*guest, error) {
	if why := g.earlier.unknown; why != nil {
		g.end()
		g = d.newLeft(leftover{saved: g.earlier.saved, spec: s, unknown: why})
		g.state.SetFailure(unknownMachine(g.name, why).Error())
		d.add(g)
	}
	g.earlier.decided = true
	_, err := d.tryRecover(g)
	g.earlier.decided = false
	if err != nil {
		return nil, fmt.Errorf("adopt machine %s of an earlier daemon: %w", g.name, err)
	}
	return d.find(g.name), nil
}

// stopLeft ends a machine of an earlier daemon. It is silent, so that nothing needs
// to be held first; the voice is given up before its memory is gone. The caller has
// reserved its name.
func (d *Daemon) stopLeft(ctx context.Context, g *guest) error {
	if err := d.removeLeft(ctx, g); err != nil {
		return err
	}
	g.publish(status.Event{Kind: status.Stopped, Message: "QEMU of an earlier daemon was ended"})
	return nil
}

// loseLeft ends a replica that had won a takeover and was not run before its daemon
// ended, which alone had the last epoch whole: there is nothing to go on from.
func (d *Daemon) loseLeft(ctx context.Context, g *guest) (done bool, err error) {
	if err := d.removeLeft(ctx, g); err != nil {
		return false, err
	}
	g.log.Error("the machine is lost: its takeover was granted, and the daemon ended before the guest ran")
	g.publish(status.Event{Kind: status.MachineLost, Message: "the machine is lost: its takeover was granted here, and the daemon ended before the guest ran; start the machine again"})
	return true, nil
}

func (d *Daemon) removeLeft(ctx context.Context, g *guest) error {
	stands, err := d.voices.Current(ctx, g.name)
	if err == nil && stands.Voice == d.config.Host {
		err = d.voices.GiveUp(ctx, g.name, stands.Generation)
	}
	if err != nil {
		return fmt.Errorf("stop machine %s of an earlier daemon: %w; it stays, silent", g.name, err)
	}
	qemu, err := d.hypervisor.Find(d.machineOptions(g.earlier.spec, false, g.log), g.earlier.saved.Taps)
	if err != nil && !errors.Is(err, machine.ErrNotRunning) {
		return fmt.Errorf("stop machine %s of an earlier daemon: %w; nobody speaks for it any more", g.name, err)
	}
	qemu.Remove()
	d.endLeft(g)
	return nil
}
