package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/capture"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/primary"
	"github.com/stillpoint-ft/stillpoint/hostd/quiesce"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/standby"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/hostd/voice"
)

const eventQueue = 256

// guest is one machine on this host, on either side of a pair. Its run loop
// owns the role machine and carries out what it says, in order; everything
// that takes long is a task that answers with an event.
type guest struct {
	d    *Daemon
	name string
	spec spec.Machine
	log  hclog.Logger

	events chan pair.Event
	asks   chan question
	ctx    context.Context // ends with the guest
	end    context.CancelFunc
	tasks  tasks

	qemu  QEMU
	gate  *gate.Gate
	door  *voice.Door // what lets output leave goes through it: voice.go
	agent *quiesce.Session

	// Owned by the run loop.
	role       *pair.Machine
	protection *primary.Session                // the primary's side of a pair
	standby    *standby.Session                // the standby's side
	slot       int                             // among the machines that are protected from here
	asStandby  atomic.Pointer[standby.Session] // the same, for others
	left       *capture.Capture                // a capture that ended with QEMU still in COLO
	leaving    atomic.Bool                     // that QEMU did not obey yet
	earlier    *earlier                        // what an earlier daemon left; nil once it is this one's. Until then the guest has no QEMU, gate or run loop
	kept       []pair.Effect                   // that a stop's door has refused
	told       string                          // the last report
	stopping   atomic.Pointer[stop]

	saving   sync.Mutex  // one writes the saved state at a time
	resaving atomic.Bool // one waits to try again

	state *status.Machine
	// there are the standby's uplinks and taps, as it has told last; nil if it has not.
	there atomic.Pointer[[]gate.Link]
	// ending: remove and leave may be asked for by several at once. over is closed
	// when it is done.
	ending  atomic.Bool
	over    chan struct{}
	retired atomic.Bool // it is being removed, and nobody has asked for that
}

func (d *Daemon) newGuest(s spec.Machine) *guest {
	g := &guest{d: d, name: s.Name, spec: s, log: d.log.With("machine", s.Name),
		events: make(chan pair.Event, eventQueue), asks: make(chan question), over: make(chan struct{}),
		door: voice.NewDoor(d.config.Host), role: pair.New(d.config.Host, s.Name)}
	g.state = status.NewMachine(g.role.Role())
	g.ctx, g.end = context.WithCancel(d.ctx)
	return g
}

// bringUp starts QEMU, the wire and the agent's session; on failure nothing
// of them is left.
func (g *guest) bringUp(ctx context.Context, incoming bool) (err error) {
	if g.qemu, err = g.d.hypervisor.Start(ctx, g.d.machineOptions(g.spec, incoming, g.log)); err != nil {
		return err
	}
	if err = g.save(); err == nil {
		err = g.attach()
	}
	if err != nil {
		g.qemu.Remove()
		g.d.forgetSaved(g.name)
		return fmt.Errorf("%w; its QEMU was ended", err)
	}
	return nil
}

// attach connects a QEMU that runs to the network and to its agent. The machine
// stays silent.
func (g *guest) attach() (err error) {
	if g.gate, err = g.d.openGate(g.gateOptions()); err != nil {
		return fmt.Errorf("connect machine %s to the network: %w", g.name, err)
	}
	if g.spec.Agent.Enabled {
		g.agent = quiesce.New(g.log.Named("agent"), quiesce.Options{Dial: g.qemu.DialAgent})
		g.task(func() { g.agent.Run(g.ctx) })
	}
	return nil
}

// live gives a machine that runs here its voice, which the arbiter has granted,
// and begins its run loop. The network may still look for the machine where it was
// before, and a guest that only answers would never correct it, so its addresses are
// announced.
func (g *guest) live(grant arbiter.Record, solo bool) {
	g.door.Stands(grant)
	g.speaks(pair.PassOutput{})
	g.announceAgain()
	g.task(g.repeatAnnouncement)
	g.gate.OpenInput()
	if g.agent != nil {
		g.agent.Resume(0, false, grant.Generation)
	}
	role := pair.Unprotected
	if solo {
		role = pair.Solo
	}
	g.state.SetRole(role, grant.Generation)
	g.start(pair.Started{Generation: grant.Generation, Solo: solo})
	g.d.add(g)
}

// start begins the run loop of a guest that has been brought up.
func (g *guest) start(first pair.Event) {
	g.post(first)
	g.task(g.beWatched)
	g.task(g.run)
	g.task(g.watchQEMU)
	g.task(g.tend)
}

func (g *guest) gateOptions() gate.Options {
	o := gate.Options{HeldOutput: int(g.d.config.Limits.HeldOutput), HeldInput: int(g.d.config.Limits.HeldInput),
		InputDelay: time.Duration(g.d.config.Limits.InputDelay),
		AtOnce:     primary.OutputOf(g.spec.Protection).Leaves, Changed: g.linkChanged,
		Log: g.log.Named("gate")}
	for _, p := range g.spec.Ports {
		o.Ports = append(o.Ports, gate.Port{Name: p.Name, Tap: p.Tap, Uplink: p.Uplink,
			MAC: p.MAC, Addresses: p.Addresses})
	}
	return o
}

// task runs f beside the run loop, unless the guest has ended.
func (g *guest) task(f func()) { g.tasks.Go(f) }

// watchQEMU tells of QEMU's end as soon as it is certain, and of its reason when
// that is known: to take its memory apart costs the kernel time that grows with it.
func (g *guest) watchQEMU() {
	select {
	case <-g.qemu.Ending():
	case <-g.ctx.Done():
		return
	}
	select {
	case <-g.qemu.Exited():
		g.post(pair.MachineLost{Why: g.qemu.Reason().Error()})
		return
	default:
		g.post(pair.MachineLost{Why: "QEMU ends"})
	}
	select {
	case <-g.qemu.Exited():
		g.state.Note() // who waits for a role learns that none will come
		g.publish(status.Event{Kind: status.QEMUEnded, Message: g.qemu.Reason().Error()})
	case <-g.ctx.Done():
	}
}

// post hands an event to the run loop. It gives up when the guest has ended.
func (g *guest) post(e pair.Event) { g.postWhile(g.ctx, e) }

// postWhile a context lasts: a part of the guest that is being ended is waited for by the
// run loop, which takes no events then.
func (g *guest) postWhile(ctx context.Context, e pair.Event) {
	select {
	case g.events <- e:
	case <-ctx.Done():
	}
}

func (g *guest) run() {
	for {
		select {
		case e := <-g.events:
			_ = g.step(e)
		case q := <-g.asks:
			for len(g.events) > 0 { // what happened before it was asked
				_ = g.step(<-g.events)
			}
			q.answer <- g.answer(q)
		case <-g.ctx.Done():
			return
		}
	}
}

// question is an operator's event, which the role machine may refuse.
type question struct {
	event  pair.Event
	wanted func() bool // still, when its turn has come; nil: yes
	answer chan error
}

func (g *guest) answer(q question) error {
	if q.wanted != nil && !q.wanted() {
		return errNotWanted
	}
	return g.step(q.event)
}

var errNotWanted = errors.New("it is not wanted any more")

// ask has the role machine take an operator's event, and returns why it is refused.
func (g *guest) ask(ctx context.Context, e pair.Event) error { return g.askWhile(ctx, e, nil) }

// askWhile is for what an operator has not asked for just now, and may have thought
// better of.
func (g *guest) askWhile(ctx context.Context, e pair.Event, wanted func() bool) error {
	q := question{e, wanted, make(chan error, 1)}
	select {
	case g.asks <- q:
	case <-g.ctx.Done():
		return errEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-q.answer:
		return err
	case <-g.ctx.Done():
		return errEnded
	}
}

var errEnded = errors.New("the machine has ended here")

// step takes an event, and returns why it is refused if it is an operator's.
func (g *guest) step(e pair.Event) (refused error) {
	before, generation := g.role.Role(), g.role.Generation()
	effects := g.role.Step(e)
	for _, effect := range effects {
		if r, ok := effect.(pair.Refused); ok {
			refused = errors.New(r.Why)
			continue
		}
		g.carryOut(effect)
	}
	if now := g.role.Role(); now != before {
		g.log.Info("role changed", "from", before, "to", now, "event", fmt.Sprintf("%T", e))
		g.noteRole(now)
	}
	g.state.SetRole(g.role.Role(), g.role.Generation())
	if g.role.Generation() != generation {
		g.task(g.saveChange) // a later daemon must not take an arbiter's word that is older
		g.task(g.beWatched)
	}
	return refused
}

// noteRole keeps in mind who is to protect the machine.
func (g *guest) noteRole(now pair.Role) {
	switch now {
	case pair.Protected:
		g.want(g.state.Peer())
	case pair.Unprotected:
		g.want("")
	}
}

// want says which host is to protect the machine, now and whenever it has no
// standby; none if empty.
func (g *guest) want(standby string) {
	if g.state.Want(standby) {
		g.task(g.saveChange) // a slow disk holds nobody up
	}
}

// remove ends everything of the guest here and waits for it. It may be called
// concurrently and more than once.
func (g *guest) remove() { g.finish(g.removeOnce) }

// finish the guest by the first way that is asked for, and wait for it.
func (g *guest) finish(by func()) {
	if g.ending.Swap(true) {
		<-g.over
		return
	}
	defer close(g.over)
	by()
}

func (g *guest) removeOnce() {
	g.gate.Silence()
	g.gate.DropInput()
	g.end()
	g.tasks.Wait()
	g.stopProtection()
	g.stopStandby()
	g.gate.Close() // that its taps go with QEMU is no news
	g.qemu.Remove()
	g.notWatched()
	g.d.forgetSaved(g.name)
}

// leave ends the daemon's part and lets QEMU be: the machine is silent.
func (g *guest) leave() {
	if g.earlier != nil {
		g.end()
		return
	}
	g.finish(g.leaveOnce)
}

func (g *guest) leaveOnce() {
	g.gate.Close()
	g.end()
	g.tasks.Wait()
	g.stopProtection()
	g.stopStandby()
	g.qemu.Release()
}

// await returns when the guest's role is one of the wanted, or with an error
// when it settles elsewhere, which settled tells.
func (g *guest) await(ctx context.Context, settled func(pair.Role) (done bool, err error)) error {
	for {
		role, changed := g.state.Role()
		if done, err := settled(role); done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-g.ctx.Done():
			return fmt.Errorf("machine %s was stopped", g.name)
		case <-ctx.Done():
			return fmt.Errorf("machine %s is %s: %w", g.name, role, context.Cause(ctx))
		}
	}
}
