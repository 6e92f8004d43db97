package pair_test

import (
	. "github.com/stillpoint-ft/stillpoint/hostd/pair"
)

type message struct {
	kind   string
	number uint64
	epoch  epoch
	life   int
}

// link is one connection: ordered, and cut at any time with everything that is
// under way. Each end notices in its own time.
type link struct {
	primary, standby *host
	machines         [2]*Machine  // whose connection it is
	queue            [2][]message // to the primary, to the standby
	cut              bool
	noticed          [2]bool
}

func newLink(primary, standby *host) *link {
	return &link{primary: primary, standby: standby, machines: [2]*Machine{primary.machine, nil}}
}

func (l *link) end(i int) *host { return [2]*host{l.primary, l.standby}[i] }

func (l *link) side(h *host) int {
	if h == l.primary {
		return 0
	}
	return 1
}

// owns reports that the end's machine is still the one that was connected.
func (l *link) owns(i int) bool {
	return l.end(i).machine != nil && l.end(i).machine == l.machines[i]
}

func (l *link) send(from *host, m message) {
	if l == nil || l.cut || !l.owns(l.side(from)) {
		return
	}
	to := 1 - l.side(from)
	l.queue[to] = append(l.queue[to], m)
}

// close: what was sent before still arrives, or not.
func (l *link) close(h *host) {
	if i := l.side(h); l.owns(i) {
		l.cut = true
	}
}

func (l *link) actions(w *world) []action {
	var all []action
	for i := range 2 {
		if len(l.queue[i]) > 0 {
			all = append(all, action{30, func() { l.deliver(i) }})
		}
		if l.cut && !l.noticed[i] && l.owns(i) {
			all = append(all, action{10, func() { l.notice(i) }})
		}
	}
	if !l.cut && w.faults && l.owns(0) {
		all = append(all, action{w.rate, func() { l.cut = true; w.tracef("the link is cut") }})
	}
	return all
}

func (l *link) notice(i int) {
	l.noticed[i], l.queue[i] = true, nil
	l.end(i).post(LinkLost{"cut"})
}

func (l *link) deliver(i int) {
	m, h := l.queue[i][0], l.end(i)
	if m.kind == "epoch" && l.owns(i) && h.stored != nil && h.stored.number > h.acked {
		if len(h.events) == 0 { // never: the standby has decided to claim
			l.queue[i] = nil
		}
		return // the epoch before it comes first
	}
	l.queue[i] = l.queue[i][1:]
	if m.kind == "prepare" {
		l.prepare(h, m)
		return
	}
	if l.owns(i) {
		h.w.tracef("%s: receives %s %d", h.name, m.kind, max(m.number, m.epoch.number))
		h.receive(m)
	}
}

// prepare makes the other host a standby, if nothing of the machine is there.
func (l *link) prepare(h *host, m message) {
	taken := h.machine != nil && h.machine.Role() != Fenced
	if !h.daemon || taken {
		l.cut, l.noticed[0] = true, true
		if l.owns(0) {
			l.primary.post(SeedFailed{"refused"})
		}
		return
	}
	h.reset()
	h.machine, h.qemu, h.link = New(h.name, "m"), true, l
	l.machines[1] = h.machine
	h.post(BecomeStandby{l.primary.name, m.number})
	l.send(h, message{kind: "prepared"})
}

func (h *host) receive(m message) {
	switch m.kind {
	case "prepared":
		h.post(StandbyPrepared{})
	case "epoch":
		if h.loading || h.started {
			return
		}
		h.stored, h.life = &m.epoch, m.life
		h.post(EpochStored{m.epoch.number})
	case "released":
		h.released = m.number
	case "ack":
		h.post(EpochAcked{m.number})
	case "role":
		h.post(RoleGranted{m.number})
	case "machine-lost":
		h.ended = true
		h.post(PeerMachineLost{"QEMU ended"})
	case "hand-over":
		h.ended = true
		h.post(HandedOver{m.number})
	case "took-over":
		h.post(PeerTookOver{m.number})
		h.link.cut, h.link.noticed[1] = true, true // the new primary has all the input and closes
	}
}

type record struct{ voice, standby string }

// request is a claim under way. Its machine may be gone when it lands.
type request struct {
	host     *host
	machine  *Machine
	claim    Claim
	answered bool
}

// arbiter is the store of records, one for each generation from 1.
type arbiter struct {
	w       *world
	records []record
	pending []*request
	plain   bool // looks at generations only; then nothing may be started twice, or stopped
	speed   int  // weight of its answers among all that happens
	lose    int  // how many answers will be lost
}

func (a *arbiter) generation() uint64 { return uint64(len(a.records)) }

func (a *arbiter) current() record {
	if len(a.records) == 0 {
		return record{}
	}
	return a.records[len(a.records)-1]
}

// start claims the voice for a fresh start.
func (a *arbiter) start(host string) (generation uint64, won bool) {
	if v := a.current().voice; v != "" && v != host || a.plain && v != "" {
		return 0, false
	}
	a.records = append(a.records, record{voice: host})
	return a.generation(), true
}

func (a *arbiter) ask(h *host, c Claim) {
	a.pending = append(a.pending, &request{host: h, machine: h.machine, claim: c})
}

func (a *arbiter) actions() []action {
	var all []action
	for i, r := range a.pending {
		all = append(all, action{a.speed, func() { a.land(i) }})
		if a.w.faults && !r.answered {
			all = append(all, action{2 * a.w.rate, func() { a.answer(r, ArbiterSilent{Why: "hangs"}) }}) // and may land later
			all = append(all, action{a.w.rate, func() { a.remove(i); a.answer(r, ArbiterSilent{"lost", a.w.rng.IntN(2) == 0}) }})
			all = append(all, action{a.w.rate, func() { a.decide(i); a.answer(r, ArbiterSilent{Why: "answer lost"}) }})
		}
	}
	return all
}

func (a *arbiter) remove(i int) { a.pending = append(a.pending[:i:i], a.pending[i+1:]...) }

func (a *arbiter) land(i int) {
	r := a.pending[i]
	answer := a.decide(i)
	if a.lose > 0 {
		a.lose, answer = a.lose-1, ArbiterSilent{Why: "answer lost"}
	}
	if !r.answered {
		a.answer(r, answer)
	}
}

// named: only the standby of the record that stands may take over.
func (a *arbiter) named(c Claim) bool {
	return a.plain || c.Kind != ClaimTakeover && c.Kind != ClaimHandover || a.current().standby == c.Voice
}

// decide is the test-and-set.
func (a *arbiter) decide(i int) Event {
	r := a.pending[i]
	a.remove(i)
	c := r.claim
	if a.generation() != c.Expect || !a.named(c) {
		if a.current().voice == r.host.name && a.generation() > c.Expect {
			a.w.reached["claim unseen"]++
		}
		return Denied{a.current().voice, a.generation()}
	}
	a.records = append(a.records, record{c.Voice, c.Standby})
	a.w.tracef("arbiter: generation %d: %+v", a.generation(), c)
	if c.Kind == ClaimReturn {
		a.w.reached["given back"]++
	}
	return Granted{a.generation()}
}

func (a *arbiter) answer(r *request, e Event) {
	r.answered = true
	if _, ok := e.(ArbiterSilent); ok {
		a.w.reached["arbiter silent"]++
	}
	if r.host.machine == r.machine {
		r.host.post(e)
	}
}
