package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/pace"
)

var (
	runs    = flag.Int("sim.runs", 0, "how many runs; 0 for what the tests take")
	seed    = flag.Uint64("sim.seed", 1, "the first seed")
	verbose = flag.Bool("sim.v", false, "show what happens, with the daemons' logs")
)

// stuckAfter of real time a run is taken to hang: then something waits for a lock
// whose owner waits for the clock.
const stuckAfter = 10 * time.Minute

var total, found atomic.Int64

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	removeSpare()
	if n := total.Load(); n > 0 {
		fmt.Printf("sim: %d runs, %d findings\n", n, found.Load())
	}
	os.Exit(code)
}

// TestSimulation: in no run is an invariant broken.
func TestSimulation(t *testing.T) {
	n := *runs
	if n == 0 {
		n = ordinaryRuns
		if pace.Here().Slow() {
			n /= 20
		}
	}
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for k := next.Add(1); k <= int64(n); k = next.Add(1) {
				check(t, *seed+uint64(k-1))
			}
		})
	}
}

// check one seed.
func check(t *testing.T, seed uint64) {
	total.Add(1)
	p := newPlan(seed)
	w, findings := run(t, p, *verbose)
	if *verbose {
		t.Log("\n" + strings.Join(w.trace, "\n"))
	}
	if len(findings) == 0 {
		return
	}
	found.Add(1)
	fmt.Printf("seed %d: %s\n", seed, strings.Join(findings, "; "))
	t.Errorf("seed %d: %s\n\n%v\n%s", seed, strings.Join(findings, "\n"), p, strings.Join(last(w.trace, 200), "\n"))
}

func last(lines []string, n int) []string { return lines[max(len(lines)-n, 0):] }

// run a plan in a clock of its own.
func run(t *testing.T, p plan, verbose bool) (w *world, findings []string) {
	dir, err := os.MkdirTemp(memoryDir(), "sim")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var here atomic.Pointer[world]
	stuck := time.AfterFunc(stuckAfter, func() { giveUp(p, &here) })
	defer stuck.Stop()
	defer func() {
		if r := recover(); r != nil { // synctest's: goroutines are left, or all wait for ever
			w = here.Load()
			findings = append(w.findings, fmt.Sprint(r))
			for _, path := range w.ram {
				os.Remove(path)
			}
		}
	}()
	synctest.Test(t, func(*testing.T) {
		w := newWorld(p, dir, verbose)
		here.Store(w)
		w.play(p)
	})
	w = here.Load()
	w.giveBack()
	return w, w.findings
}

func memoryDir() string {
	if _, err := os.Stat("/dev/shm"); err == nil {
		return "/dev/shm"
	}
	return ""
}

func (w *world) play(p plan) {
	for _, h := range w.hosts {
		h.start()
	}
	for _, s := range p.steps {
		time.Sleep(s.after)
		w.log("* %s", s.what)
		s.do(w)
	}
	time.Sleep(w.between(0, 2*time.Second))
	w.heal()
	if w.lostRecords() {
		w.decide()
	}
	w.judge()
	w.end()
}

// giveUp on a run that hangs in real time, with everything there is to know.
func giveUp(p plan, here *atomic.Pointer[world]) {
	fmt.Printf("seed %d hangs\n%v\n", p.seed, p)
	if w := here.Load(); w != nil && w.mu.TryLock() {
		fmt.Println(strings.Join(last(w.trace, 200), "\n"))
	}
	b := make([]byte, 4<<20)
	fmt.Printf("%s\nsim: %d runs, %d findings\n", b[:runtime.Stack(b, true)], total.Load(), found.Load()+1)
	os.Exit(1)
}
