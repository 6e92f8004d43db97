package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// plan is what a seed means: a world, and what happens in it.
type plan struct {
	seed    uint64
	hosts   []string
	spares  bool
	slowEnd bool
	spec    string
	steps   []step
}

// step happens some time after the one before.
type step struct {
	after time.Duration
	what  string
	do    func(*world)
}

func (s step) String() string { return fmt.Sprintf("after %v: %s", s.after, s.what) }

// planner draws a plan.
type planner struct {
	*rand.Rand
	p plan
}

func newPlan(seed uint64) plan {
	r := planner{Rand: rand.New(rand.NewPCG(seed, 1))}
	r.p = plan{seed: seed, hosts: []string{"a", "b"}, slowEnd: r.IntN(8) == 0}
	if r.IntN(4) == 0 {
		r.p.hosts, r.p.spares = append(r.p.hosts, "c"), true
	}
	r.p.spec = fmt.Sprintf("name: m\nmemory: 16MiB\nkernel: /boot/none\nagent: {enabled: false}\n"+
		"protection: {min-epoch: %dms, max-epoch: 200ms, input-log: %s}\n"+
		"ports: [{name: in, tap: %s, uplink: %s, mac: \"52:54:00:01:02:03\"}]\n",
		20+r.IntN(60), pick(r, "sync", "async", "off"), tapName, uplinkName)
	if r.IntN(20) > 0 { // most begin with a pair
		r.add(0, "start on a", func(w *world) { _ = w.host("a").startMachine() })
		r.add(0, "protect by b", func(w *world) {
			if err := w.host("a").protect("b", true); err != nil {
				w.finding("nothing is in the way, and the machine is not protected: %v", err)
			}
		})
	}
	for range 3 + r.IntN(10) {
		r.one()
	}
	return r.p
}

func pick[T any](r planner, all ...T) T { return all[r.IntN(len(all))] }

func (r *planner) add(after time.Duration, what string, do func(*world)) {
	r.p.steps = append(r.p.steps, step{after, what, do})
}

// pause before a step: often none, for things happen together.
func (r *planner) pause() time.Duration {
	switch r.IntN(4) {
	case 0:
		return 0
	case 1:
		return time.Duration(r.IntN(30)) * time.Millisecond
	case 2:
		return time.Duration(r.IntN(300)) * time.Millisecond
	}
	return time.Duration(r.IntN(1500)) * time.Millisecond
}

func (r *planner) lasting() time.Duration {
	return time.Duration(pick(*r, 20, 200, 700, 2000, 5000)) * time.Millisecond * time.Duration(50+r.IntN(100)) / 100
}

func (r *planner) one() {
	switch n := r.IntN(100); {
	case n < 38:
		r.operator()
	case n < 45:
		r.amid()
	case n < 55:
		r.qemuFault()
	case n < 67:
		r.daemonFault()
	case n < 82:
		r.networkFault()
	case n < 94:
		r.arbiterFault()
	case n < 96:
		h, d := pick(*r, r.p.hosts...), r.lasting()
		r.add(r.pause(), fmt.Sprintf("the disk of %s fails for %v", h, d), func(w *world) {
			w.host(h).spoilDisk()
			w.later(d, w.host(h).clearDisk)
		})
	case n < 98:
		h, d, room := pick(*r, r.p.hosts...), r.lasting(), r.IntN(5)
		r.add(r.pause(), fmt.Sprintf("the uplink of %s takes %d frames in %v", h, room, d), func(w *world) {
			w.host(h).up.has(room)
			w.later(d, func() { w.host(h).up.has(-1) })
		})
	default:
		n := 1 + r.IntN(20)
		r.add(r.pause(), fmt.Sprintf("%d frames arrive", n), func(w *world) { w.input(n) })
	}
}

func (r *planner) operator() { r.operatorOn(pick(*r, r.p.hosts...), pick(*r, r.p.hosts...)) }

func (r *planner) operatorOn(h, other string) {
	wait := r.IntN(2) == 0
	switch pick(*r, "start", "stop", "protect", "protect", "protect", "unprotect", "switchover", "switchover", "takeover", "look", "stop and start") {
	case "start":
		r.background("start on "+h, func(w *world) { _ = w.host(h).startMachine() })
	case "stop":
		r.background("stop on "+h, func(w *world) { w.host(h).stopMachine() })
	case "stop and start":
		r.background("stop on "+h+", start on "+other, func(w *world) {
			w.host(h).stopMachine()
			_ = w.host(other).startMachine()
		})
	case "protect":
		r.background(fmt.Sprintf("protect on %s by %s, wait %v", h, other, wait), func(w *world) { _ = w.host(h).protect(other, wait) })
	case "unprotect":
		r.background("unprotect on "+h, func(w *world) { w.host(h).unprotect() })
	case "switchover":
		r.background("switch over from "+h, func(w *world) { w.host(h).switchover() })
	case "takeover":
		r.background("take over on "+h, func(w *world) { w.host(h).takeover() })
	case "look":
		r.background("look at "+h, func(w *world) { w.host(h).lookAround() })
	}
}

// amid makes things happen while a takeover stalls on its way.
func (r *planner) amid() {
	h, other, d := pick(*r, r.p.hosts...), pick(*r, r.p.hosts...), r.lasting()
	label := pick(*r, fault.TakingOver, fault.TakingOver, fault.Storing, fault.Committing, fault.Applying)
	r.add(r.pause(), fmt.Sprintf("the daemon of %s stalls at step %s for %v", h, label, d), func(w *world) { w.host(h).stallAt(label, 0, d) })
	if r.IntN(2) == 0 {
		r.background("take over on "+h, func(w *world) { w.host(h).takeover() })
	} else {
		r.background("switch over from "+other, func(w *world) { w.host(other).switchover() })
	}
	if r.IntN(2) == 0 {
		r.add(time.Duration(r.IntN(40))*time.Millisecond, fmt.Sprintf("the arbiter is deaf for %s for %v", h, d), func(w *world) {
			w.arbiter.change(h, func(r *reach) { r.deaf = true })
			w.later(d, func() { w.arbiter.change(h, func(r *reach) { *r = reach{} }) })
		})
	}
	for range 1 + r.IntN(3) {
		r.operatorOn(pick(*r, h, h, other), pick(*r, h, other))
	}
}

func (r *planner) background(what string, do func(*world)) {
	r.add(r.pause(), what, func(w *world) { w.tasks.Go(func() { do(w) }) })
}

func (r *planner) qemuFault() {
	h, d := pick(*r, r.p.hosts...), r.lasting()
	switch pick(*r, "dies", "hangs", "takes over badly") {
	case "dies":
		r.add(r.pause(), "QEMU on "+h+" dies", func(w *world) { w.host(h).killQEMU() })
	case "hangs":
		r.add(r.pause(), fmt.Sprintf("QEMU on %s hangs for %v", h, d), func(w *world) { w.host(h).hangQEMU(d) })
	default:
		r.add(r.pause(), "the next takeover fails", func(w *world) {
			w.loses()
			w.mu.Lock()
			w.failTakeover++
			w.mu.Unlock()
		})
	}
}

var labels = []string{fault.Requested, fault.Quiescing, fault.Stopped, fault.Copying, fault.Copied, fault.Shipping, fault.Sent,
	fault.Committing, fault.Storing, fault.Applying, fault.Applied, fault.TakingOver}

func (r *planner) daemonFault() {
	h, d, label, spare := pick(*r, r.p.hosts...), r.lasting(), pick(*r, labels...), r.IntN(4)
	switch pick(*r, "dies", "dies at", "leaves", "stalls at", "stalls at", "host") {
	case "dies":
		r.add(r.pause(), fmt.Sprintf("the daemon of %s dies for %v", h, d), func(w *world) { w.host(h).crash(d, false) })
	case "dies at":
		r.add(r.pause(), fmt.Sprintf("the daemon of %s dies at step %s (after %d) for %v", h, label, spare, d), func(w *world) {
			w.host(h).set(&trap{label, spare, func(*incarnation) { w.host(h).crash(d, false) }})
		})
	case "leaves":
		r.add(r.pause(), fmt.Sprintf("the daemon of %s is ended for %v", h, d), func(w *world) { w.host(h).endDaemon(d) })
	case "stalls at":
		r.add(r.pause(), fmt.Sprintf("the daemon of %s stalls at step %s (after %d) for %v", h, label, spare, d), func(w *world) {
			w.host(h).stallAt(label, spare, d)
		})
	default:
		r.add(r.pause(), fmt.Sprintf("host %s dies for %v", h, d), func(w *world) { w.host(h).powerOff(d) })
	}
}

func (r *planner) networkFault() {
	a, b, d := pick(*r, r.p.hosts...), pick(*r, r.p.hosts...), r.lasting()
	if a == b {
		a, b = "a", "b"
	}
	both := r.IntN(2) == 0
	switch pick(*r, "cut", "cut", "reset", "slow") {
	case "cut":
		r.add(r.pause(), fmt.Sprintf("the network from %s to %s is cut for %v, both ways %v", a, b, d, both), func(w *world) {
			w.cut(a, b, both, true)
			w.later(d, func() { w.cut(a, b, both, false) })
		})
	case "reset":
		r.add(r.pause(), fmt.Sprintf("connections of %s and %s break", a, b), func(w *world) { w.net.reset(a, b) })
	case "slow":
		by := time.Duration(r.IntN(400)) * time.Millisecond
		r.add(r.pause(), fmt.Sprintf("the network from %s to %s is slow by %v for %v", a, b, by, d), func(w *world) {
			w.net.change(a, b, func(p *path) { p.delay = by })
			w.later(d, func() { w.net.change(a, b, func(p *path) { p.delay = 200 * time.Microsecond }) })
		})
	}
}

func (r *planner) arbiterFault() {
	h, d := pick(*r, r.p.hosts...), r.lasting()
	all := r.IntN(4) == 0
	if r.IntN(6) == 0 {
		r.forget(d)
		return
	}
	kind := pick(*r, "cut", "deaf", "deaf", "slow")
	by := time.Duration(r.IntN(2500)) * time.Millisecond
	r.add(r.pause(), fmt.Sprintf("the arbiter is %s for %s (all hosts %v) for %v; slow by %v", kind, h, all, d, by), func(w *world) {
		for _, x := range w.names {
			if x != h && !all {
				continue
			}
			w.arbiter.change(x, func(r *reach) {
				switch kind {
				case "cut":
					r.cut = true
				case "deaf":
					r.deaf = true
				case "slow":
					r.slow = by
				}
			})
			w.later(d, func() { w.arbiter.change(x, func(r *reach) { *r = reach{} }) })
		}
	})
}

// forget empties the arbiter: for a while, or until the operators have done what is to
// be done then.
func (r *planner) forget(d time.Duration) {
	if r.IntN(3) == 0 {
		r.add(r.pause(), "the arbiter loses its records for good", func(w *world) { w.arbiter.forget(true); w.losesRecords() })
		return
	}
	r.add(r.pause(), fmt.Sprintf("the arbiter is empty for %v", d), func(w *world) {
		w.arbiter.forget(true)
		w.later(d, w.recordsBack)
	})
}

// later does something, when the faults end at the latest.
func (w *world) later(d time.Duration, do func()) {
	w.tasks.Go(func() {
		w.rest(d)
		do()
	})
}

// rest until the faults end, at most.
func (w *world) rest(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.healed:
	}
}

func (w *world) cut(a, b string, both, down bool) {
	w.net.change(a, b, func(p *path) { p.down = down })
	if both {
		w.net.change(b, a, func(p *path) { p.down = down })
	}
}

// input arrives where the network has last heard the guest, and at times
// everywhere.
func (w *world) input(n int) {
	for range n {
		w.mu.Lock()
		w.inputs++
		number := w.inputs
		w.mu.Unlock()
		w.oracle.mu.Lock()
		from := w.oracle.lastFrom
		w.oracle.mu.Unlock()
		for _, h := range w.hosts {
			if from == "" || h.name == from {
				h.up.arrive(inputFrame(number))
			}
		}
	}
}

func (h *host) stopMachine() {
	_ = h.call("stop", func(ctx context.Context, api control.HostdServer) error {
		_, err := api.StopMachine(ctx, &control.MachineRequest{Name: machineName})
		return err
	})
}

func (h *host) protect(by string, wait bool) error {
	return h.call("protect by "+by, func(ctx context.Context, api control.HostdServer) error {
		_, err := api.Protect(ctx, &control.ProtectRequest{Name: machineName, Standby: by, Wait: wait})
		return err
	})
}

func (h *host) unprotect() {
	_ = h.call("unprotect", func(ctx context.Context, api control.HostdServer) error {
		_, err := api.Unprotect(ctx, &control.MachineRequest{Name: machineName})
		return err
	})
}

func (h *host) switchover() {
	_ = h.call("switchover", func(ctx context.Context, api control.HostdServer) error {
		_, err := api.Switchover(ctx, &control.MachineRequest{Name: machineName})
		return err
	})
}

func (h *host) takeover() {
	_ = h.call("takeover", func(ctx context.Context, api control.HostdServer) error {
		_, err := api.Takeover(ctx, &control.MachineRequest{Name: machineName})
		return err
	})
}

// lookAround is what monitoring does.
func (h *host) lookAround() {
	_ = h.call("look", func(ctx context.Context, api control.HostdServer) error {
		if _, err := api.Status(ctx, &control.StatusRequest{}); err != nil {
			return err
		}
		if _, err := api.ListMachines(ctx, &control.ListMachinesRequest{}); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return api.Events(&control.EventsRequest{Checkpoints: true}, events{ctx: ctx})
	})
}

func (h *host) killQEMU() {
	if q := h.process(); q != nil {
		h.w.loses()
		q.die("a fault")
	}
}

func (h *host) hangQEMU(d time.Duration) {
	if q := h.process(); q != nil {
		h.w.loses()
		h.w.log("%s: QEMU %d hangs", h.name, q.pid)
		q.hang()
		h.w.later(d, q.unhang)
	}
}

// crash the daemon; another one starts later.
func (h *host) crash(d time.Duration, silent bool) {
	i := h.current()
	if i == nil {
		return
	}
	h.w.loses()
	i.crash(silent)
	h.w.later(d, h.start)
}

// stallAt lets the daemon stand still for a while when it reaches a step.
func (h *host) stallAt(label string, spare int, d time.Duration) {
	h.set(&trap{label, spare, func(i *incarnation) {
		h.w.loses() // a QEMU that waits for it too long is ended
		h.w.log("%s: stalls at %s for %v", i.name(), label, d)
		h.w.rest(d)
	}})
}

func (h *host) endDaemon(d time.Duration) {
	i := h.current()
	if i == nil {
		return
	}
	h.w.loses()
	h.w.tasks.Go(func() {
		done := h.w.began("end of daemon " + i.name())
		left := i.leave(2 * time.Minute)
		done(nil)
		if !left {
			h.w.finding("%s does not end", i.name())
		}
		h.w.rest(d)
		h.start()
	})
}

// powerOff ends the daemon and its QEMUs, and tells nobody.
func (h *host) powerOff(d time.Duration) {
	h.w.loses()
	q := h.process()
	h.crash(d, true)
	if q != nil {
		q.die("its host lost power")
		h.gone(q)
	}
}

func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "hosts %v, QEMU ends slowly %v\n%s", p.hosts, p.slowEnd, p.spec)
	for _, s := range p.steps {
		fmt.Fprintf(&b, "%v\n", s)
	}
	return b.String()
}
