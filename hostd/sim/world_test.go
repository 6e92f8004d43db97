package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

const machineName = "m"

// world is one run.
type world struct {
	dir     string
	names   []string
	hosts   []*host
	net     *network
	arbiter *arbiterStore
	oracle  *oracle
	spares  bool
	verbose bool
	spec    []byte
	start   time.Time
	healed  chan struct{} // closed when the faults end
	tasks   sync.WaitGroup

	mu       sync.Mutex
	rng      *rand.Rand
	trace    []string
	findings []string
	calls    map[*call]bool
	pids     int
	ram      []string // files
	inputs   uint64
	// lossy: something has happened that can lose the machine.
	lossy        bool
	recordsLost  bool // the arbiter's, for good
	over         bool // no daemon is started any more
	slowEnd      bool // QEMU's end takes long
	failTakeover int
}

func newWorld(p plan, dir string, verbose bool) *world {
	w := &world{dir: dir, verbose: verbose, names: p.hosts, spares: p.spares, spec: []byte(p.spec), start: time.Now(), healed: make(chan struct{}),
		rng: rand.New(rand.NewPCG(p.seed, 7)), calls: map[*call]bool{}, slowEnd: p.slowEnd}
	w.oracle = newOracle(w)
	w.net = &network{w: w, paths: map[[2]string]*path{}}
	w.arbiter = newArbiter(w)
	for _, n := range w.names {
		w.hosts = append(w.hosts, newHost(w, n))
	}
	return w
}

func (w *world) host(name string) *host { return w.hosts[slices.Index(w.names, name)] }

func (w *world) nextPid() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pids++
	return w.pids
}

// between two durations, at random.
func (w *world) between(a, b time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

// chance of one in n.
func (w *world) chance(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n) == 0
}

func (w *world) endingTime() time.Duration {
	if w.slowEnd {
		return w.between(0, 2*time.Second)
	}
	return w.between(0, 20*time.Millisecond)
}

func (w *world) takesOverBadly() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failTakeover == 0 {
		return false
	}
	w.failTakeover--
	return true
}

func (w *world) isOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

func (w *world) loses() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lossy = true
}

func (w *world) losesRecords() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recordsLost = true
}

func (w *world) lostRecords() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.recordsLost
}

// recordsBack where they are not lost for good.
func (w *world) recordsBack() {
	if !w.lostRecords() {
		w.arbiter.forget(false)
	}
}

func (w *world) log(format string, args ...any) {
	line := fmt.Sprintf("%9.4f  %s", time.Since(w.start).Seconds(), fmt.Sprintf(format, args...))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, line)
}

func (w *world) finding(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.log("FINDING: %s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.findings = append(w.findings, text)
}

// began notes a call that must come to an end.
func (w *world) began(what string) (done func(error)) {
	c := &call{what, time.Now()}
	w.log("%s ...", what)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[c] = true
	return func(err error) {
		w.log("... %s: %v", what, err)
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.calls, c)
	}
}

func (w *world) waiting() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.calls {
		list = append(list, fmt.Sprintf("%s (for %v)", c.what, time.Since(c.began)))
	}
	return list
}

// look at the machine on every host.
func (w *world) look() (all []*control.Machine) {
	for _, h := range w.hosts {
		i := h.current()
		if i == nil {
			all = append(all, nil)
			continue
		}
		var m *control.Machine
		if r, err := i.api.ListMachines(context.Background(), &control.ListMachinesRequest{}); err == nil && len(r.Machines) > 0 {
			m = r.Machines[0]
		}
		all = append(all, m)
	}
	return all
}

// speaks says that a role is that of a machine that runs.
func speaks(role string) bool {
	return role == string(pair.Unprotected) || role == string(pair.Solo) || role == string(pair.Protected) || role == string(pair.Seeding)
}

// voices are the hosts whose machine runs; restless says that something is still
// to come.
func (w *world) voices() (voices []string, restless bool, summary string) {
	var parts []string
	for k, m := range w.look() {
		if m == nil {
			parts = append(parts, w.names[k]+" -")
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %s %d", w.names[k], m.Role, m.Generation))
		q := w.hosts[k].process()
		runs := q != nil && !q.dead()
		switch {
		case speaks(m.Role) && runs:
			voices = append(voices, w.names[k])
			restless = restless || m.Role == string(pair.Seeding) || m.Role == string(pair.Solo) && m.WantedStandby != ""
		case m.Role == string(pair.TakingOver):
			restless = true
		}
	}
	return voices, restless, strings.Join(parts, ", ")
}

// heal ends every fault.
func (w *world) heal() {
	w.log("all faults end")
	close(w.healed)
	w.mu.Lock()
	w.failTakeover = 0
	w.mu.Unlock()
	for _, a := range w.hosts {
		a.disarm()
		w.arbiter.change(a.name, func(r *reach) { *r = reach{} })
		for _, b := range w.hosts {
			w.net.change(a.name, b.name, func(p *path) { p.down, p.delay = false, 200*time.Microsecond })
		}
		if q := a.process(); q != nil {
			q.unhang()
		}
		a.clearDisk()
		a.up.has(-1)
		a.start()
	}
	w.recordsBack()
}

// decide does what docs/safety.md wants of operators whose arbiter has lost its records
// for good: all daemons are started anew, and the machine goes on where it spoke last.
func (w *world) decide() {
	var all sync.WaitGroup
	for _, h := range w.hosts {
		all.Go(func() {
			if i := h.current(); i != nil && !i.leave(2*time.Minute) {
				w.finding("%s does not end", i.name())
			}
		})
	}
	all.Wait()
	stood := w.arbiter.lose(machineName)
	w.log("the arbiter has lost %s %d voice %q", stood.Kind, stood.Generation, stood.Voice)
	for _, h := range w.hosts {
		h.start()
	}
	time.Sleep(5 * time.Second) // until what they have found is listed
	for k, m := range w.look() {
		if h := w.hosts[k]; m != nil && h.name != stood.Voice {
			h.stopMachine()
		}
	}
	if stood.Voice == "" {
		return
	}
	var err error
	if w.look()[slices.Index(w.names, stood.Voice)] == nil {
		err = fmt.Errorf("host %s does not have it", stood.Voice)
	} else {
		err = w.host(stood.Voice).startMachine()
	}
	w.mu.Lock()
	lossy := w.lossy
	w.mu.Unlock()
	switch {
	case err == nil || lossy:
	case w.oracle.heard(stood.Voice):
		w.finding("the machine does not go on after the arbiter has lost its records: %v", err)
	default:
		w.loses() // it had been granted, but the answer was lost with the record
	}
}

// settle waits until nothing is to come, for two minutes at most.
func (w *world) settle() (voices []string, summary string) {
	calm, last := 0, ""
	for range 1200 {
		time.Sleep(100 * time.Millisecond)
		var restless bool
		voices, restless, summary = w.voices()
		restless = restless || len(voices) > 1 || w.arbiter.busy()
		if restless || len(w.waiting()) > 0 || summary != last || len(voices) == 0 && calm < 60 {
			calm++
			if summary != last || restless || len(w.waiting()) > 0 {
				calm = 0
			}
			last = summary
			continue
		}
		if calm++; calm >= 5 {
			break
		}
	}
	return voices, summary
}

// judge what there is after all faults have ended.
func (w *world) judge() {
	voices, summary := w.settle()
	w.log("at the end: %s", summary)
	for _, c := range w.waiting() {
		w.finding("a call hangs: %s; %s", c, summary)
	}
	record := w.arbiter.stands(machineName)
	switch len(voices) {
	case 0:
		if !w.lossy && record.Voice != "" {
			w.finding("the machine is lost: %s, and %q has the voice (%s %d)", summary, record.Voice, record.Kind, record.Generation)
		}
		w.startAgain(record.Voice)
	case 1:
		w.mustSpeak(voices[0])
	default:
		w.finding("two voices: %s", summary)
	}
}

// mustSpeak wants output from the host that has the voice.
func (w *world) mustSpeak(name string) {
	if r := w.arbiter.stands(machineName); r.Voice != name {
		w.finding("%s runs the machine, and the record says %s %d voice %q", name, r.Kind, r.Generation, r.Voice)
		return
	}
	from := time.Now()
	time.Sleep(3 * time.Second)
	w.oracle.mu.Lock()
	defer w.oracle.mu.Unlock()
	if !w.oracle.lastLeft.After(from) || w.oracle.lastFrom != name {
		w.finding("%s runs the machine and says nothing", name)
	}
}

// startAgain is what an operator does about a machine that is lost.
func (w *world) startAgain(voice string) {
	if voice == "" {
		voice = w.names[0]
	}
	for _, h := range w.hosts {
		_ = h.call("stop", func(ctx context.Context, api control.HostdServer) error {
			_, err := api.StopMachine(ctx, &control.MachineRequest{Name: machineName})
			return err
		})
	}
	if r := w.arbiter.stands(machineName); r.Voice != "" {
		voice = r.Voice
	}
	if err := w.host(voice).startMachine(); err != nil {
		w.finding("a machine that was lost cannot be started again: %v", err)
		return
	}
	w.mustSpeak(voice)
}

func (h *host) startMachine() error {
	if h.w.arbiter.isEmpty() {
		return errors.New("an operator does not start a machine while the arbiter is empty")
	}
	return h.call("start", func(ctx context.Context, api control.HostdServer) error {
		_, err := api.StartMachine(ctx, &control.StartMachineRequest{Spec: h.w.spec, File: "m.yaml"})
		return err
	})
}

// end everything.
func (w *world) end() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	var all sync.WaitGroup
	for _, h := range w.hosts {
		if i := h.current(); i != nil {
			all.Go(func() {
				if !i.leave(2 * time.Minute) {
					w.finding("%s does not end", i.name())
				}
			})
		}
	}
	all.Wait()
	for _, h := range w.hosts {
		if q := h.process(); q != nil {
			q.die("the run is over")
		}
	}
	w.tasks.Wait()
}

func (h *host) spoilDisk() {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = os.MkdirAll(filepath.Join(h.stateDir(), "machines", machineName+".json.new"), 0o700)
}

func (h *host) clearDisk() {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = os.RemoveAll(filepath.Join(h.stateDir(), "machines", machineName+".json.new"))
}
