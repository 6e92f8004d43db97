package nemesis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

// Options of a run.
type Options struct {
	// Build is the project's build directory.
	Build string
	Seed  uint64
	// Rounds is how many; 0: until Duration is over.
	Rounds   int
	Duration time.Duration
	// Files is where logs stay if the run finds something.
	Files string
	// Progress gets a line for each round; nil: nobody.
	Progress io.Writer
}

const (
	requests  = 200       // UDP packets per second at most, each answered
	part      = 7         // percent at most of what the guest carries
	tcpRate   = 256 << 10 // bytes per second at most
	batch     = 10        // rounds with one traffic
	backLimit = 2 * time.Minute
	// TCP may wait 2 min before it sends again what was lost, once an answer was
	// held as long as a host without the arbiter may hold it.
	flowLimit  = 3 * time.Minute
	stateBytes = 640 << 20 // of a host's disk: the arbiter's member needs some 200 MB
)

// nemesis is a run under way.
type nemesis struct {
	*scene.Scene
	o        Options
	random   *rand.Rand
	report   *Report
	faults   map[string]*lab.Faults
	dark     map[string]bool // hosts without power
	emptied  []emptied
	taken    []net.Conn // connections to a QEMU's monitor, so that nobody else gets one
	traffic  *scene.Traffic
	streams  uint32
	macs     []lab.MAC
	speaking string // the host that spoke last
	silent   stopped
	now      Round
	load     scene.Load
}

// Run breaks things until the rounds or the time are over, or until it finds
// something, which the report tells. An error means that the run itself failed.
func Run(ctx context.Context, o Options) (*Report, error) {
	n := &nemesis{o: o, random: rand.New(rand.NewPCG(o.Seed, 0)), report: &Report{Seed: o.Seed, Started: time.Now()},
		faults: map[string]*lab.Faults{}, dark: map[string]bool{}}
	if o.Progress == nil {
		n.o.Progress = io.Discard
	}
	err := n.run(ctx)
	n.report.Elapsed = time.Since(n.report.Started)
	return n.report, err
}

func (n *nemesis) run(ctx context.Context) (err error) {
	if n.Scene, err = scene.New(ctx, scene.Options{Build: n.o.Build, Faults: true, Arbiter: lab.ArbiterEtcd, StateSize: stateBytes,
		Files: n.o.Files, Configure: func(c *lab.Config) { c.Detection.QEMU = pace.Here().Limit(3 * time.Second).String() }}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := n.begin(ctx); err != nil {
		return n.Explain(err)
	}
	for round := 1; n.more(round) && len(n.report.Findings) == 0; round++ {
		if err := n.round(ctx, round); err != nil {
			return n.Explain(fmt.Errorf("seed %d, round %d: %w", n.o.Seed, round, err))
		}
		if round%batch == 0 || !n.more(round+1) {
			if err := n.judgeTraffic(ctx); err != nil {
				return n.Explain(err)
			}
		}
	}
	if len(n.report.Findings) > 0 {
		n.report.Logs = n.Explain(errors.New("the nemesis found something")).Error()
	}
	return nil
}

func (n *nemesis) more(round int) bool {
	if n.o.Rounds > 0 {
		return round <= n.o.Rounds
	}
	return time.Since(n.report.Started) < n.o.Duration
}

// begin protects the machine.
func (n *nemesis) begin(ctx context.Context) error {
	for _, text := range []string{lab.NATInsideMAC, lab.NATOutsideMAC} {
		mac, err := lab.ParseMAC(text)
		if err != nil {
			return err
		}
		n.macs = append(n.macs, mac)
	}
	for _, h := range n.Hosts {
		f, err := h.Faults()
		if err != nil {
			return err
		}
		n.faults[h.Name] = f
	}
	env := map[string][]string{}
	for name, f := range n.faults {
		env[name] = f.Env()
	}
	if err := n.StartWith(ctx, env); err != nil {
		return err
	}
	if err := n.Boot(ctx, n.NAT()); err != nil {
		return err
	}
	load, err := n.Load(ctx)
	if err != nil {
		return err
	}
	n.load = load
	fmt.Fprintf(n.o.Progress, "%v; %v: sent are %d requests and %d bytes of TCP per second\n", n.Pace, load, load.Rate(requests, part), load.Bytes(tcpRate))
	if _, err := n.A.Protect(ctx, scene.Machine, n.B.Name); err != nil {
		return err
	}
	n.speaking = n.A.Name
	return nil
}

// round breaks things, heals them and waits for the pair to come back.
func (n *nemesis) round(ctx context.Context, number int) error {
	if err := n.flow(ctx); err != nil {
		return err
	}
	p, s, err := n.protected(ctx)
	if err != nil {
		return err
	}
	n.Wire.Reset()
	plan := n.plan(p, s)
	r := Round{Number: number, Primary: p.Name, What: plan.String()}
	n.now = r
	began := time.Now()
	broke := n.carryOut(ctx, plan)
	healed := time.Now()
	if err := errors.Join(broke, n.heal(ctx)); err != nil {
		return fmt.Errorf("%s: %w", r.What, err)
	}
	if err := n.restored(ctx, plan.wish); err != nil {
		n.find(r, "the pair does not come back: %v; %s", err, n.states(ctx))
		return nil
	}
	r.Broken, r.Back = healed.Sub(began), time.Since(healed)
	if err := n.flow(ctx); err != nil {
		n.find(r, "packets do not flow again: %v; %v; %s", err, n.traffic, n.states(ctx))
		return nil
	}
	if err := n.judgeVoices(ctx, r); err != nil {
		return err
	}
	n.report.Rounds = append(n.report.Rounds, r)
	fmt.Fprintf(n.o.Progress, "round %d: on host %s, %s; protected again %v after it was healed\n",
		number, r.Primary, r.What, r.Back.Round(time.Millisecond))
	return nil
}

func (n *nemesis) find(r Round, format string, args ...any) {
	n.report.Events = n.story()
	n.report.Findings = append(n.report.Findings, fmt.Sprintf("round %d (on host %s, %s): ", r.Number, r.Primary, r.What)+fmt.Sprintf(format, args...))
	fmt.Fprintln(n.o.Progress, n.report.Findings[len(n.report.Findings)-1])
}

// protected waits until the pair is whole, and tells who is what.
func (n *nemesis) protected(ctx context.Context) (primary, standby *lab.Host, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.Pace.Limit(backLimit))
	defer cancel()
	err = scene.Until(ctx, func() bool {
		todo, on := next(n.places(ctx), false)
		primary, standby = n.Hosts[on], n.Hosts[1-on]
		return todo == whole
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", n.roles(context.WithoutCancel(ctx)), err)
	}
	return primary, standby, err
}

func (n *nemesis) roles(ctx context.Context) string {
	return fmt.Sprintf("host a is %q, host b is %q", n.role(ctx, n.A), n.role(ctx, n.B))
}

// storyLength is how many of a host's events a finding tells.
const storyLength = 60

// story is what the daemons told last, checkpoints left out, in order.
func (n *nemesis) story() []string {
	var all []lab.Event
	for _, h := range n.Hosts {
		events := slices.DeleteFunc(slices.Clone(h.Events()), func(e lab.Event) bool { return e.Checkpoint != nil })
		all = append(all, events[max(0, len(events)-storyLength):]...)
	}
	slices.SortStableFunc(all, func(a, b lab.Event) int { return cmp.Compare(a.TimeUnixNanos, b.TimeUnixNanos) })
	var lines []string
	for _, e := range all {
		lines = append(lines, fmt.Sprintf("%s host %s, %s, generation %d: %s: %s", time.Unix(0, e.TimeUnixNanos).UTC().Format("15:04:05.000"),
			e.Host, e.Role, e.Generation, e.Kind, e.Message))
	}
	return lines
}

// states is all that the hosts tell of the machine.
func (n *nemesis) states(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var all []string
	for _, h := range n.Hosts {
		m, err := h.Machine(ctx, scene.Machine)
		all = append(all, fmt.Sprintf("host %s: %v (%v)", h.Name, m, err))
	}
	return strings.Join(all, "; ")
}

// role of the machine on a host; empty if the host does not tell.
func (n *nemesis) role(ctx context.Context, h *lab.Host) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	m, err := h.Machine(ctx, scene.Machine)
	if err != nil || m == nil {
		return ""
	}
	return m.Role
}

// flow waits until packets pass, beginning a traffic where there is none.
func (n *nemesis) flow(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, n.Pace.Limit(flowLimit))
	defer cancel()
	if n.traffic == nil {
		if err := n.AwaitPackets(ctx); err != nil {
			return fmt.Errorf("the guest does not forward: %w", err)
		}
		n.streams++
		n.traffic, err = n.StartTraffic(context.WithoutCancel(ctx), scene.TrafficOptions{Rate: n.load.Rate(requests, part), TCPRate: n.load.Bytes(tcpRate), Stream: n.streams})
		if err != nil {
			return err
		}
	}
	return n.traffic.Flowing(ctx, uint64(n.load.Rate(requests, part)/2))
}
