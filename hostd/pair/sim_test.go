package pair_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	. "github.com/stillpoint-ft/stillpoint/hostd/pair"
)

var (
	simSeed = flag.Uint64("sim.seed", 0, "replay one run of the simulation and print it")
	simRuns = flag.Int("sim.runs", 1000, "runs of the simulation")
)

// TestSimulation plays pairs of hosts with a model of the network, the arbiter,
// QEMU and the daemon around two role machines, breaks them at random, and
// looks at what the world outside sees.
func TestSimulation(t *testing.T) {
	first, runs := uint64(1), *simRuns
	if *simSeed != 0 {
		first, runs = *simSeed, 1
	}
	if testing.Short() {
		runs = min(runs, 500)
	}
	reached := map[string]int{}
	for seed := first; seed < first+uint64(runs); seed++ {
		w := newWorld(seed)
		w.run(400)
		if w.failure != "" || *simSeed != 0 {
			t.Log(w.transcript())
		}
		if w.failure != "" {
			t.Fatalf("seed %d: %s (replay: -run TestSimulation -sim.seed %d)", seed, w.failure, seed)
		}
		for k, n := range w.reached {
			reached[k] += n
		}
	}
	t.Log("reached:", reached)
	if *simSeed != 0 {
		return
	}
	for _, what := range []string{"protected", "solo", "taking-over", "fenced", "handed over", "given back", "claim unseen", "arbiter silent", "committed", "stopped", "stop refused"} {
		if reached[what] == 0 {
			t.Errorf("no run reached %q: the simulation is too tame", what)
		}
	}
}

// world is two hosts, the link between them, the arbiter, and the users.
type world struct {
	rng     *rand.Rand
	hosts   [2]*host
	links   []*link
	arbiter arbiter
	log     []string
	failure string
	faults  bool // may happen, and operators ask
	rate    int  // of faults
	busy    bool // guests send, and checkpoints are taken
	reached map[string]int

	life    int   // of the machine: counts fresh starts
	next    int   // number of the next packet that a guest sends
	seen    []int // packets that have left, in this life
	current *host // where the machine runs on, by the last fresh start or takeover
}

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), faults: true, busy: true, reached: map[string]int{}}
	w.rate = []int{0, 1, 3, 10}[w.rng.IntN(4)]
	w.hosts = [2]*host{{w: w, name: "a", daemon: true}, {w: w, name: "b", daemon: true}}
	w.arbiter = arbiter{w: w, plain: w.rng.IntN(4) == 0, speed: []int{30, 3}[w.rng.IntN(2)]}
	return w
}

func (w *world) other(h *host) *host {
	if h == w.hosts[0] {
		return w.hosts[1]
	}
	return w.hosts[0]
}

func (w *world) tracef(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) failf(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
		w.tracef("FAILED: %s", w.failure)
	}
}

func (w *world) transcript() string { return strings.Join(w.log, "\n") }

// action is something that may happen next.
type action struct {
	weight int
	do     func()
}

// run plays some steps with faults, and then without.
func (w *world) run(steps int) {
	for range steps {
		if !w.step() {
			break
		}
	}
	w.settle()
}

// settle plays on without faults until nothing moves, and looks at where the
// pair came to rest.
func (w *world) settle() {
	w.faults, w.busy = false, false
	for range 5000 {
		if !w.step() {
			w.checkRest()
			return
		}
	}
	w.failf("the pair does not come to rest")
}

func (w *world) step() bool {
	if w.failure != "" {
		return false
	}
	var all []action
	for _, h := range w.hosts {
		all = append(all, h.actions()...)
	}
	for _, l := range w.links {
		all = append(all, l.actions(w)...)
	}
	all = append(all, w.arbiter.actions()...)
	total := 0
	for _, a := range all {
		total += a.weight
	}
	if total == 0 {
		return false
	}
	n := w.rng.IntN(total)
	for _, a := range all {
		if n -= a.weight; n < 0 {
			a.do()
			break
		}
	}
	w.checkVoices()
	return true
}

// emit is what the users see. Whoever speaks must remember everything that has
// been said. Only committed output may also come late, by an acknowledgement
// that was under way: if the one that has taken over remembers it, or the
// machine has been started afresh since.
func (w *world) emit(h *host, packets []int, committed bool) {
	if len(packets) == 0 || committed && h.life != w.life {
		return
	}
	if h.life != w.life {
		w.failf("host %s sends packets of a machine that was started again elsewhere", h.name)
		return
	}
	late := committed && w.current != h && contains(w.current.history, packets)
	if !contains(h.history, w.seen) && !late {
		w.failf("host %s sends %v, and does not remember all that was sent before: %v", h.name, packets, w.seen)
	}
	for _, p := range packets {
		if !slices.Contains(w.seen, p) {
			w.seen = append(w.seen, p)
		}
	}
}

// contains looks some packets up in a history, which is in ascending order.
func contains(history, some []int) bool {
	for _, p := range some {
		if _, ok := slices.BinarySearch(history, p); !ok {
			return false
		}
	}
	return true
}

// checkVoices: at most one host lets a running guest speak freely.
func (w *world) checkVoices() {
	if w.hosts[0].speaks() && w.hosts[1].speaks() {
		w.failf("both hosts let output leave")
	}
}

// checkRest: with the faults over nothing waits for ever.
func (w *world) checkRest() {
	for _, h := range w.hosts {
		if h.machine == nil {
			continue
		}
		switch role := h.machine.Role(); role {
		case Protected, Solo, Unprotected:
			if h.qemu && h.started && !h.running {
				w.failf("host %s is %s with its guest stopped", h.name, role)
			}
			if h.qemu && len(h.open)+len(h.cut) > 0 {
				w.failf("host %s is %s and holds output", h.name, role)
			}
			if role == Protected && !w.standbyOf(h) {
				w.failf("host %s is protected by nobody", h.name)
			}
		case Standby:
			if p := w.other(h); p.machine == nil || p.machine.Role() != Protected {
				w.failf("host %s stands by for nobody", h.name)
			}
		case Fenced:
			if h.started && h.qemu {
				w.failf("host %s is fenced and its QEMU lives", h.name)
			}
		default:
			w.failf("host %s stays %s", h.name, role)
		}
	}
}

func (w *world) standbyOf(h *host) bool {
	o := w.other(h)
	return o.machine != nil && o.machine.Role() == Standby && h.link == o.link && !h.link.cut
}

// TestSingleFault: a protected machine survives any one fault at any moment,
// and is there once.
func TestSingleFault(t *testing.T) {
	faults := map[string]func(w *world){
		"QEMU of the primary":                           func(w *world) { w.hosts[0].kill() },
		"QEMU of the standby":                           func(w *world) { w.hosts[1].kill() },
		"host of the primary":                           func(w *world) { w.hosts[0].kill(); w.hosts[0].crash() },
		"host of the standby":                           func(w *world) { w.hosts[1].kill(); w.hosts[1].crash() },
		"QEMU of the primary, and the arbiter's answer": func(w *world) { w.arbiter.lose = 1; w.hosts[0].kill() },
		"link, and the arbiter's answer":                func(w *world) { w.arbiter.lose = 1; w.links[0].cut = true },
		"link":                                          func(w *world) { w.links[0].cut = true },
	}
	for name, fault := range faults {
		for _, ask := range []Event{nil, SwitchoverAsked{}} {
			t.Run(fmt.Sprintf("%s,%T", name, ask), func(t *testing.T) {
				for seed := range uint64(300) {
					w := newWorld(seed)
					w.breakOnce(ask, fault)
					if w.failure != "" {
						t.Fatalf("%s\nseed %d: %s", w.transcript(), seed, w.failure)
					}
				}
			})
		}
	}
}

func (w *world) breakOnce(ask Event, fault func(*world)) {
	a, b := w.hosts[0], w.hosts[1]
	w.faults = false
	a.start()
	a.post(Protect{b.name})
	for a.machine.Role() != Protected {
		w.step()
	}
	for range w.rng.IntN(40) {
		w.step()
	}
	if ask != nil {
		a.post(ask)
		for range w.rng.IntN(40) {
			w.step()
		}
	}
	w.tracef("the fault")
	moved := b.started // past the switch-over there is no standby any more
	fault(w)
	w.settle()
	moved = moved || w.arbiter.current().voice == b.name && !b.daemon
	alive := 0
	for _, h := range w.hosts {
		if h.qemu && h.running && (h.passing || h.machine.Role() == Protected) {
			alive++
		}
	}
	if alive > 1 || alive == 0 && !moved {
		w.failf("the machine runs on %d hosts", alive)
	}
}
