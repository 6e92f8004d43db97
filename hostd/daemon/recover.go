package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

const (
	recoverLimit = 30 * time.Second
	recoverRetry = time.Second
)

// recover takes care of the machines that an earlier daemon left. They are
// silent until the arbiter has said whose voice it is.
func (d *Daemon) recover() {
	for name, s := range d.savedMachines() {
		release, err := d.reserve(name)
		if err != nil {
			continue // nobody else can be at it before the daemon serves
		}
		d.tasks.Add(1)
		go func() {
			defer d.tasks.Done()
			defer release()
			d.recoverMachine(name, s)
		}()
	}
}

func (d *Daemon) recoverMachine(name string, s saved) {
	log := d.log.With("machine", name)
	m, err := s.machine(name)
	if err != nil {
		log.Error("machine of an earlier daemon is left alone", "error", err)
		return
	}
	for d.ctx.Err() == nil {
		done, err := d.tryRecover(m, s)
		if done {
			return
		}
		log.Warn("machine of an earlier daemon waits, silent", "error", err)
		select {
		case <-time.After(recoverRetry):
		case <-d.ctx.Done():
		}
	}
}

// tryRecover adopts the machine if this host has its voice, and ends it if not.
func (d *Daemon) tryRecover(m spec.Machine, s saved) (done bool, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, recoverLimit)
	defer cancel()
	stands, err := d.arbiter.Current(ctx, m.Name)
	if err != nil {
		return false, fmt.Errorf("ask the arbiter: %w", err)
	}
	qemu, err := d.hypervisor.Find(d.machineOptions(m, false, d.log.With("machine", m.Name)), s.Taps)
	gone := errors.Is(err, machine.ErrNotRunning)
	if err != nil && !gone {
		return false, err
	}
	if gone || stands.Voice != d.config.Host {
		qemu.Remove()
		d.forgetSaved(m.Name)
		d.reportLeft(m.Name, stands, gone)
		return true, nil
	}
	if stands, err = d.takeVoice(ctx, stands); err == nil {
		done, err = d.adopt(ctx, m, s, qemu, stands.Generation)
	}
	if !done {
		qemu.Release() // QEMU serves one monitor at a time, and the next try needs it
	}
	return done, err
}

func (d *Daemon) reportLeft(name string, stands arbiter.Record, gone bool) {
	e := &control.Event{Machine: name, Kind: "fenced", Generation: stands.Generation,
		Message: fmt.Sprintf("what an earlier daemon left was ended: %s has the voice", voiceOf(stands))}
	if gone && stands.Voice == d.config.Host {
		e.Kind, e.Message = "machine-lost", "QEMU ended while no daemon was there; start the machine again, unless its standby takes over"
	}
	d.events.publish(e)
}

func voiceOf(r arbiter.Record) string {
	if r.Voice == "" {
		return "nobody"
	}
	return "host " + r.Voice
}

// takeVoice makes sure that no standby may take the machine over. It claims
// also where the record names none: a claim of the daemon that is gone may be on
// its way still, and must find its generation taken.
func (d *Daemon) takeVoice(ctx context.Context, stands arbiter.Record) (arbiter.Record, error) {
	kind := kindStarted
	if stands.Standby != "" {
		kind = string(pair.ClaimSolo)
	}
	return d.arbiter.TestAndSet(ctx, stands.Generation, arbiter.Record{Machine: stands.Machine,
		Generation: stands.Generation + 1, Voice: d.config.Host, Kind: kind})
}

// adopt takes a running QEMU over from an earlier daemon.
func (d *Daemon) adopt(ctx context.Context, m spec.Machine, s saved, qemu QEMU, generation uint64) (done bool, err error) {
	if err := qemu.Connect(ctx); err != nil {
		return false, err
	}
	g := d.newGuest(m)
	g.qemu = qemu
	g.board.want(s.Standby)
	if err := g.attach(); err != nil {
		g.end()
		return false, err
	}
	if err := capture.Free(ctx, qemu.Monitor()); err != nil {
		g.leave()
		return false, err
	}
	if version, err := qemu.Monitor().QueryVersion(ctx); err == nil {
		g.board.setQEMU(version.String())
	}
	g.live(pair.Started{Generation: generation, Solo: s.Standby != ""})
	g.publish(&control.Event{Kind: "adopted", Message: fmt.Sprintf("QEMU (process %d) of an earlier daemon goes on", qemu.Pid())})
	return true, nil
}
