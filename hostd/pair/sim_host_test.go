package pair_test

import (
	"fmt"
	"slices"

	. "github.com/stillpoint-ft/stillpoint/hostd/pair"
)

// epoch is a guest at a cut, and the packets that wait for its commit.
type epoch struct {
	number  uint64
	history []int
	output  []int
	last    bool
}

// host is a daemon, as the role machine's caller, and the QEMU that it looks
// after.
type host struct {
	w       *world
	name    string
	daemon  bool
	machine *Machine
	link    *link
	events  []Event
	retries int

	// QEMU. A guest that was started, here or by a takeover, has a history:
	// every packet that it has sent.
	qemu, started, running bool
	life                   int
	history                []int

	// The gate.
	passing, silent bool
	shut, asked     bool     // by a stop, which the role machine knows
	kept            []Effect // that the shut door has refused
	open            []int
	cut             []epoch

	// The primary's side.
	capturing, last bool
	captured        uint64

	// The standby's side.
	stored   *epoch
	acked    uint64
	loading  bool
	ended    bool // the primary's part is over; the link stays
	claimed  bool
	released uint64
}

func (h *host) speaks() bool { return h.qemu && h.running && h.passing && !h.silent && !h.shut }

func (h *host) reset() {
	*h = host{w: h.w, name: h.name, daemon: h.daemon}
}

func (h *host) post(e Event) {
	if h.machine != nil {
		h.events = append(h.events, e)
	}
}

func (h *host) actions() []action {
	var all []action
	add := func(weight int, when bool, do func()) {
		if when {
			all = append(all, action{weight, do})
		}
	}
	w, on := h.w, h.machine != nil
	add(60, len(h.events) > 0, h.next)
	add(10, h.retries > 0, func() { h.retries--; h.post(RetryDue{}) })
	add(10, h.loading, h.load)
	add(20, h.captureDue(), h.capture)
	add(10, w.busy && h.qemu && h.running, h.work)
	if !w.faults {
		return all
	}
	calm := on && (h.machine.Role() == Unprotected || h.machine.Role() == Solo)
	add(3, h.daemon && (!on || !h.qemu && h.machine.Role() == Fenced), h.start)
	add(5, calm && h.qemu, func() { h.post(Protect{w.other(h).name}) })
	add(2, on && h.machine.Role() == Protected, func() { h.post(SwitchoverAsked{}) })
	add(1, on, h.operate)
	add(w.rate, h.qemu, h.kill)
	add(w.rate, h.daemon, h.crash)
	add(5, !h.daemon, func() { h.daemon = true; w.tracef("%s: daemon is back", h.name) })
	return all
}

// operate asks for something, whether it fits or not.
func (h *host) operate() {
	asks := []Event{Protect{h.w.other(h).name}, Unprotect{}, SwitchoverAsked{}, TakeoverAsked{}}
	if n := h.w.rng.IntN(len(asks) + 1); n < len(asks) {
		h.post(asks[n])
		return
	}
	h.stop()
}

// stop shuts the door and then asks the role machine, as the daemon does.
func (h *host) stop() {
	if !h.shut && !h.w.arbiter.plain {
		h.w.tracef("%s: nothing leaves: the machine is to stop", h.name)
		h.shut = true
		h.post(Stop{})
	}
}

// next takes one event, sometimes twice.
func (h *host) next() {
	e := h.events[0]
	h.events = h.events[1:]
	h.step(e)
	if h.machine != nil && h.w.faults && h.w.rng.IntN(20) == 0 {
		h.step(e)
	}
}

func (h *host) step(e Event) {
	w, m := h.w, h.machine
	h.asked = h.asked || e == Event(Stop{})
	effects := slices.Clone(m.Step(e))
	w.tracef("%s: %T%+v -> %s %v", h.name, e, e, m.Role(), describe(effects))
	w.reached[string(m.Role())]++
	for _, effect := range effects {
		h.carryOut(effect)
	}
}

func describe(effects []Effect) (s []string) {
	for _, e := range effects {
		if _, ok := e.(Report); !ok {
			s = append(s, fmt.Sprintf("%T%+v", e, e))
		}
	}
	return s
}

// start begins the machine afresh, by a claim. What the last life of the
// machine has said is forgotten.
func (h *host) start() {
	w := h.w
	r, won := w.arbiter.start(h.name)
	if !won {
		return
	}
	h.reset()
	h.machine = New(h.name, "m")
	w.life++
	w.seen, w.current = nil, h
	h.qemu, h.started, h.running, h.passing, h.life = true, true, true, true, w.life
	w.tracef("%s: started afresh, generation %d", h.name, r)
	h.post(Started{Generation: r})
}

// forgetPair drops what is left of the last pair's events.
func (h *host) forgetPair() {
	h.events = slices.DeleteFunc(h.events, func(e Event) bool {
		switch e.(type) {
		case StandbyPrepared, SeedFailed, EpochCaptured, EpochAcked, PeerTookOver, LinkLost:
			return true
		}
		return false
	})
}

func (h *host) work() {
	h.w.next++
	h.history = append(h.history, h.w.next)
	switch {
	case h.silent:
	case h.passing && !h.shut:
		h.w.emit(h, []int{h.w.next}, false)
	default:
		h.open = append(h.open, h.w.next)
	}
}

// captureDue: one epoch at a time or, at random, two.
func (h *host) captureDue() bool {
	if !h.capturing || !h.qemu || !h.running || len(h.cut) > h.w.rng.IntN(2) {
		return false
	}
	return h.w.busy || h.last || h.captured == 0 || len(h.open) > 0
}

func (h *host) capture() {
	h.captured++
	e := epoch{h.captured, slices.Clone(h.history), h.open, h.last}
	h.cut, h.open, h.passing = append(h.cut, e), nil, false
	if h.last {
		h.running, h.capturing = false, false
	}
	h.post(EpochCaptured{e.number, e.last})
}

func (h *host) kill() {
	if !h.qemu {
		return
	}
	h.w.tracef("%s: QEMU ends", h.name)
	h.qemu, h.running = false, false
	h.post(MachineLost{"killed"})
}

// crash ends the daemon; its guests are silent from then on.
func (h *host) crash() {
	h.w.tracef("%s: daemon is killed", h.name)
	h.closeLink()
	h.reset()
	h.daemon = false
}

// retire forgets the machine here.
func (h *host) retire() {
	h.closeLink()
	h.reset()
}

func (h *host) closeLink() {
	if h.link != nil {
		h.link.close(h)
	}
}

// load makes the waiting QEMU run from the stored epoch, or fails.
func (h *host) load() {
	h.loading = false
	if !h.qemu || h.w.faults && h.w.rng.IntN(3) == 0 {
		h.post(TakeoverFailed{"QEMU refuses"})
		return
	}
	h.history, h.started, h.running = slices.Clone(h.stored.history), true, true
	h.post(Running{})
}

func (h *host) goLive() {
	w := h.w
	h.passing, w.current = true, h
	if h.life != w.life {
		w.failf("host %s runs a machine that was started again elsewhere", h.name)
	}
	if !contains(h.history, w.seen) {
		w.failf("host %s runs on from epoch %d and has forgotten what was sent: %v", h.name, h.stored.number, w.seen)
	}
	if h.stored.number < h.acked {
		w.failf("host %s runs from epoch %d and has acknowledged %d", h.name, h.stored.number, h.acked)
	}
	if h.released < h.stored.number {
		w.emit(h, h.stored.output, true)
	}
	w.emit(h, h.open, false)
	h.open = nil
	h.link.send(h, message{kind: "took-over", number: h.machine.Generation()})
}

func (h *host) carryOut(effect Effect) {
	w := h.w
	switch effect.(type) {
	case Release, PassOutput, GoLive:
		if h.silent || h.asked {
			w.failf("%T after silence on host %s, or while it stops the machine", effect, h.name)
		}
		if h.shut {
			h.kept = append(h.kept, effect)
			return
		}
	}
	switch e := effect.(type) {
	case ConnectStandby:
		h.forgetPair()
		h.link = newLink(h, w.other(h))
		w.links = append(w.links, h.link)
		h.link.send(h, message{kind: "prepare", number: h.machine.Generation()})
		h.captured, h.last = 0, false
	case Seed:
		h.capturing = true
	case Claim:
		h.claimed = h.claimed || e.Kind == ClaimTakeover || e.Kind == ClaimHandover
		w.arbiter.ask(h, e)
	case StopRefused:
		w.reached["stop refused"]++
		h.shut, h.asked = false, false
		kept := h.kept
		h.kept = nil
		for _, k := range kept {
			h.carryOut(k)
		}
	case Stopped:
		w.reached["stopped"]++
		h.kill()
		h.retire()
	case ScheduleRetry:
		h.retries++
	case PassOutput:
		h.pass()
	case Release:
		h.release(e.Epoch)
	case Silence:
		h.silent, h.passing, h.open, h.cut, h.capturing = true, false, nil, nil, false
	case LeaveCOLO:
		h.capturing, h.running = false, h.qemu && h.started
	case LastEpoch:
		h.last = true
	case KillMachine:
		h.kill()
	case CloseLink:
		h.closeLink()
	case TakeOver:
		h.loading = true
		if !h.ended {
			h.closeLink()
		}
	case GoLive:
		h.goLive()
	case DropReplica:
		if h.speaks() {
			w.failf("host %s drops a machine that speaks", h.name)
		}
		h.retire()
	default:
		h.tell(effect)
	}
}

// tell carries out what goes to the other side.
func (h *host) tell(effect Effect) {
	w := h.w
	switch e := effect.(type) {
	case Ship:
		i := slices.IndexFunc(h.cut, func(x epoch) bool { return x.number == e.Epoch })
		if i < 0 {
			w.failf("host %s ships epoch %d, which it does not hold", h.name, e.Epoch)
			return
		}
		h.link.send(h, message{kind: "epoch", epoch: h.cut[i], life: h.life})
	case Ack:
		if h.stored == nil || h.stored.number < e.Epoch {
			w.failf("host %s acknowledges epoch %d, which it does not hold", h.name, e.Epoch)
		}
		if h.claimed {
			w.failf("host %s acknowledges epoch %d after it has claimed the machine", h.name, e.Epoch)
		}
		h.acked = e.Epoch
		h.link.send(h, message{kind: "ack", number: e.Epoch})
	case NotifyRole:
		h.link.send(h, message{kind: "role", number: e.Generation})
	case NotifyMachineLost:
		h.link.send(h, message{kind: "machine-lost"})
	case HandOver:
		w.reached["handed over"]++
		h.link.send(h, message{kind: "hand-over", number: e.Epoch})
	}
}

func (h *host) pass() {
	for _, e := range h.cut {
		h.w.emit(h, e.output, false)
	}
	h.w.emit(h, h.open, false)
	h.cut, h.open, h.passing = nil, nil, true
}

func (h *host) release(n uint64) {
	h.w.reached["committed"]++
	for len(h.cut) > 0 && h.cut[0].number <= n {
		h.w.emit(h, h.cut[0].output, true)
		h.cut = h.cut[1:]
	}
	h.link.send(h, message{kind: "released", number: n})
}
