package primary

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/e2e/falseqemu"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/quiesce"
	store "github.com/stillpoint-ft/stillpoint/hostd/replica"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/standby"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/proto/replica"
)

const memory = 1 << 20

// wires are a gate that notes what is asked of it.
type wires struct {
	mu      sync.Mutex
	calls   map[string]int
	held    chan struct{}
	toLog   chan struct{}
	frames  []gate.Frame // to be logged
	arrived uint64
	stored  uint64
	known   []gate.Address
	mtu     int
}

func newWires() *wires {
	return &wires{calls: map[string]int{}, held: make(chan struct{}, 1), toLog: make(chan struct{}, 1), mtu: 1500}
}

func (w *wires) call(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[name]++
}

func (w *wires) count(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[name]
}

func (w *wires) HoldInput()                       { w.call("hold") }
func (w *wires) OpenInput()                       { w.call("open") }
func (w *wires) AwaitTaken(context.Context) error { w.call("taken"); return nil }
func (w *wires) CommitInput()                     { w.call("commit") }
func (w *wires) StopLog()                         { w.call("stop log") }
func (w *wires) MTU(int) int                      { return w.mtu }
func (w *wires) Held() <-chan struct{}            { return w.held }
func (w *wires) ToLog() <-chan struct{}           { return w.toLog }
func (w *wires) StartLog(gate.Log, uint64)        { w.call("start log") }

func (w *wires) Cut(epoch uint64) *gate.Output {
	w.call("cut")
	return &gate.Output{Epoch: epoch}
}

func (w *wires) CutInput() (gate.InputCut, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return gate.InputCut{Upto: w.arrived}, nil
}

func (w *wires) Addresses() []gate.Address {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known
}

func (w *wires) Arrived() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.arrived
}

// arrive has a frame to be logged.
func (w *wires) arrive(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arrived++
	w.frames = append(w.frames, gate.Frame{Data: []byte(text)})
	select {
	case w.toLog <- struct{}{}:
	default:
	}
}

func (w *wires) TakeLog(take func(gate.Frame) bool) (first uint64, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first = w.arrived - uint64(len(w.frames)) + 1
	for len(w.frames) > 0 && take(w.frames[0]) {
		w.frames, n = w.frames[1:], n+1
	}
	return first, n
}

func (w *wires) LogBehind() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.arrived - w.stored
}

func (w *wires) Stored(number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stored = number
}

// silent is an agent that never reaches a still point, in a guest whose channel is still.
type silent struct {
	*quiesce.Session
	mu    sync.Mutex
	asked int
}

func (a *silent) Quiesce(context.Context, uint64, time.Duration) (quiesce.Answer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	return quiesce.Answer{}, errors.New("the agent is busy")
}

func (a *silent) times() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// pairing is a primary with its role machine's part, and the standby that it dials.
type pairing struct {
	t       *testing.T
	o       Options
	qemu    *falseqemu.Within
	wires   *wires
	p       *Session
	events  chan pair.Event
	told    chan status.Event
	standby func(*link.Link) // that answers; peer by default
	holds   chan bool        // the arbiter's answers
	spoken  func() (all, spoken bool)

	mu       sync.Mutex
	released []uint64
}

func newPairing(t *testing.T, g falseqemu.Guest) *pairing {
	x := &pairing{t: t, wires: newWires(), events: make(chan pair.Event, 100), told: make(chan status.Event, 1000), holds: make(chan bool, 10)}
	x.qemu = falseqemu.Begin(t, g, memory, false)
	x.spoken = func() (bool, bool) { return true, true }
	x.standby = x.peer
	s := spec.Default()
	s.Name, s.Memory = "m", memory
	s.Protection.MaxEpoch = yamlfile.Duration(5 * time.Millisecond)
	c := config.Default()
	c.Detection.QEMU = yamlfile.Duration(time.Second)
	limits := colo.DefaultLimits()
	limits.RAM = memory
	x.o = Options{Host: "a", Peer: "b", Machine: s, Policy: PolicyOf(s.Protection, 0, time.Now()), Detection: c.Detection, Limits: c.Limits, Compression: c.Link,
		Stream: limits, RAMFile: x.qemu.RAMFile(), RAMBlock: machine.RAMBlock,
		Gate: x.wires, QEMU: x.qemu, State: status.NewMachine(pair.Unprotected),
		Ready: func() error { return nil }, Dial: x.dial,
		Release: x.release, PassUntil: func(time.Time) { x.wires.call("pass") }, PassNoMore: func() { x.wires.call("pass no more") },
		Holds: func(ctx context.Context, _ uint64) (bool, error) {
			select {
			case holds, ok := <-x.holds:
				if !ok {
					return false, errors.New("no quorum")
				}
				return holds, nil
			case <-ctx.Done():
				return false, ctx.Err()
			}
		},
		LinksThere: func(all []gate.Link) { x.wires.call("links there") },
		Post: func(ctx context.Context, e pair.Event) {
			select {
			case x.events <- e:
			case <-ctx.Done():
			}
		},
		Publish: func(e status.Event) {
			select {
			case x.told <- e:
			default:
			}
		},
		Faults: fault.None, Log: hclog.NewNullLogger()}
	return x
}

func (x *pairing) release(epoch uint64, _ time.Time) (all, spoken bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if all, spoken = x.spoken(); all {
		x.released = append(x.released, epoch)
	}
	return all, spoken
}

func (x *pairing) releases() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.released)
}

// dial is answered by the standby.
func (x *pairing) dial(context.Context) (net.Conn, error) {
	a, b := connected(x.t, false)
	l := link.New(b, link.Options{Heartbeat: time.Duration(x.o.Detection.Heartbeat), Limit: time.Minute, Log: hclog.NewNullLogger()})
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.standby(l)
	}()
	go l.Watch(x.t.Context())
	x.t.Cleanup(func() {
		l.Close(context.Canceled)
		<-done
	})
	return a, nil
}

// greet answers a primary's first words.
func (x *pairing) greet(l *link.Link, welcome replica.Welcome, cards replica.Cards) (ok bool) {
	if h, _, err := l.Receive(); err != nil || h.Type != replica.TypeHello {
		return false
	}
	_ = l.Send(replica.Header{Type: replica.TypeWelcome}, welcome.Append(nil))
	h, payload, err := l.Receive()
	if err != nil || h.Type != replica.TypePrepare {
		return false
	}
	if p, err := replica.DecodePrepare(payload); err != nil || !strings.Contains(string(p.Spec), "pc-i440fx-10.0") {
		x.t.Errorf("the specification has no machine type by its version: %v\n%s", err, p.Spec)
	}
	_ = l.Send(replica.Header{Type: replica.TypeCards}, cards.Append(nil))
	_ = l.Send(replica.Header{Type: replica.TypePrepared}, replica.Prepared{QEMUVersion: "11.1.3"}.Append(nil))
	return true
}

func (x *pairing) welcome() replica.Welcome {
	return replica.Welcome{Protocol: replica.ProtocolNewest, Host: "b", Limit: uint64(x.o.Detection.Limit)}
}

// peer is a standby that keeps the protocol.
func (x *pairing) peer(l *link.Link) {
	if !x.greet(l, x.welcome(), replica.Cards{}) {
		return
	}
	path := filepath.Join(x.t.TempDir(), "ram")
	if err := os.WriteFile(path, make([]byte, memory), 0o600); err != nil {
		x.t.Error(err)
	}
	var s *standby.Session
	s, err := standby.New(context.Background(), standby.Options{Link: l, InputLog: 1 << 20, Machine: x.o.Machine,
		Replica: store.Options{RAMFile: path, RAMBlock: machine.RAMBlock, RAMSize: memory, Device: 1 << 20, Private: 1 << 20, Output: 1 << 20},
		State:   status.NewMachine(pair.Standby), Log: hclog.NewNullLogger(), Publish: func(status.Event) {}, Faults: fault.None,
		Gate: &learner{x: x},
		Post: func(_ context.Context, e pair.Event) {
			if stored, ok := e.(pair.EpochStored); ok {
				s.Acknowledge(stored.Epoch, 0)
			}
		}})
	if err != nil {
		x.t.Error(err)
		return
	}
	defer s.Stop()
	s.Begin()
	<-l.Done()
}

// learner is the gate of the standby.
type learner struct {
	standby.Gate
	x *pairing
}

func (g *learner) Learn([]gate.Address) { g.x.wires.call("learn") }

// start the session, and see the standby prepared.
func (x *pairing) start() {
	x.t.Helper()
	x.p = Start(x.t.Context(), x.o)
	x.t.Cleanup(x.p.Stop)
	if e, ok := x.next().(pair.StandbyPrepared); !ok {
		x.t.Fatalf("%#v", e)
	}
	x.p.Begin()
}

func (x *pairing) next() pair.Event {
	x.t.Helper()
	select {
	case e := <-x.events:
		return e
	case <-time.After(time.Minute):
		x.t.Fatal("nothing happens")
	}
	return nil
}

// play the role machine until it is enough, and return the first event that it does not
// know.
func (x *pairing) play(enough func() bool) pair.Event {
	x.t.Helper()
	for !enough() {
		switch e := x.next().(type) {
		case pair.EpochCaptured:
			x.p.Ship(e.Epoch)
		case pair.EpochAcked:
			x.o.State.SetRole(pair.Protected, 3)
			if !x.p.Release(e.Epoch, 3) {
				return e
			}
		default:
			return e
		}
	}
	return nil
}

func (x *pairing) committed(n uint64) func() bool {
	return func() bool { return x.o.State.Snapshot().Checkpoints >= n }
}

// want the text of an event, which tells why.
func want(t *testing.T, e pair.Event, text string) {
	t.Helper()
	why := ""
	switch e := e.(type) {
	case pair.SeedFailed:
		why = e.Why
	case pair.LinkLost:
		why = e.Why
	case pair.MachineLost:
		why = e.Why
	}
	if !strings.Contains(why, text) {
		t.Errorf("%#v, want %q", e, text)
	}
}

// TestCheckpoints are taken, shipped, committed and told of; arriving packets are held
// meanwhile, and logged.
func TestCheckpoints(t *testing.T) {
	for name, guest := range map[string]falseqemu.Guest{
		"10":             {Seed: 3, Dirty: 2, Device: 64, Series: 10},
		"large":          {Seed: 200, Dirty: 100, Device: 300 << 10, Series: 10},
		"without deltas": {Seed: 3, Dirty: 2, Device: 64, Series: 10},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPairing(t, guest)
			if name == "without deltas" {
				x.o.Limits.DeltaCache = 0
			}
			x.wires.known = []gate.Address{{Port: 5}}
			x.start()
			x.wires.arrive("first")
			if e := x.play(x.committed(3)); e != nil {
				t.Fatalf("%#v", e)
			}
			x.wires.arrive("second")
			if e := x.play(func() bool { return x.wires.LogBehind() == 0 && x.committed(6)() }); e != nil {
				t.Fatalf("%#v", e)
			}
			s := x.o.State.Snapshot()
			if s.DirtyPages == 0 || s.BytesShipped == 0 || s.Epoch < 6 {
				t.Errorf("%+v", s)
			}
			for _, call := range []string{"hold", "open", "taken", "cut", "commit", "start log", "learn"} {
				if x.wires.count(call) == 0 {
					t.Errorf("the gate was not asked to %s", call)
				}
			}
			if e := <-x.told; e.Kind != status.Committed || e.Checkpoint.Epoch != e.Epoch || e.Checkpoint.Pause <= 0 {
				t.Errorf("%+v", e)
			}
			x.p.Stop()
			if x.wires.count("stop log") == 0 || x.p.Capture() == nil {
				t.Error("what was begun goes on")
			}
		})
	}
}

// TestTheLastCheckpoint leaves the guest stopped, and waits for the hand-over.
func TestTheLastCheckpoint(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Seed: 3, Dirty: 2, Device: 64, Series: 10})
	x.start()
	if e := x.play(x.committed(2)); e != nil {
		t.Fatalf("%#v", e)
	}
	x.p.AskLast()
	for {
		e := x.next()
		if c, ok := e.(pair.EpochCaptured); ok {
			x.p.Ship(c.Epoch)
			if c.Last {
				break
			}
		} else if a, ok := e.(pair.EpochAcked); ok {
			x.p.Release(a.Epoch, 3)
		}
	}
	if e, ok := x.next().(pair.EpochAcked); !ok || !x.p.Release(e.Epoch, 3) {
		t.Fatalf("%#v", e)
	}
	x.wires.arrive("late")
	x.p.EndInput()
}

// TestAnAgentThatIsBusy: a checkpoint is taken all the same, or skipped where that is the
// policy, but for the first.
func TestAnAgentThatIsBusy(t *testing.T) {
	for how, enough := range map[string]func(*pairing, int) bool{
		spec.Force: func(x *pairing, _ int) bool { return x.o.State.Snapshot().Forced && x.committed(3)() },
		spec.Skip:  func(x *pairing, asked int) bool { return x.committed(1)() && asked > 4 },
	} {
		t.Run(how, func(t *testing.T) {
			x := newPairing(t, falseqemu.Guest{Seed: 3, Dirty: 2, Device: 64, Series: 10})
			a := &silent{Session: quiesce.New(hclog.NewNullLogger(), quiesce.Options{Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("none") }})}
			x.o.Agent, x.o.Machine.Protection.OnQuiesceFailure = a, how
			x.start()
			least := map[string]int{spec.Force: 3, spec.Skip: 1}[how]
			if e := x.play(func() bool { return x.releases() >= least }); e != nil {
				t.Fatalf("%#v", e)
			}
			if !awaits(func() bool { return enough(x, a.times()) }) {
				t.Errorf("%+v, asked %d times", x.o.State.Snapshot(), a.times())
			}
			if how == spec.Skip && x.o.State.Snapshot().Checkpoints != 1 {
				t.Errorf("%d checkpoints", x.o.State.Snapshot().Checkpoints)
			}
		})
	}
}

// awaits a condition.
func awaits(met func() bool) bool {
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(time.Millisecond) {
		if met() {
			return true
		}
	}
	return false
}

// TestAStandbyThatDoesNotFit is refused, with the reason, before anything is copied.
func TestAStandbyThatDoesNotFit(t *testing.T) {
	reject := func(l *link.Link) {
		_, _, _ = l.Receive()
		l.Reject(replica.RejectMachine, errors.New("no room for it"))
	}
	for name, c := range map[string]struct {
		guest   falseqemu.Guest
		change  func(*pairing)
		standby func(*pairing, *link.Link)
		why     string
	}{
		"not ready":       {change: func(x *pairing) { x.o.Ready = func() error { return errors.New("it leaves COLO still") } }, why: "leaves COLO"},
		"a writable disk": {guest: falseqemu.Guest{Fault: falseqemu.WritesDisk}, why: "writable disk"},
		"no peer": {change: func(x *pairing) {
			x.o.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("no route") }
		}, why: "no route"},
		"it refuses":       {standby: func(_ *pairing, l *link.Link) { reject(l) }, why: "the standby refuses: no room for it"},
		"it hangs up":      {standby: func(_ *pairing, l *link.Link) { l.Close(context.Canceled) }, why: "receive from"},
		"it says nonsense": {standby: func(_ *pairing, l *link.Link) { _ = l.Send(replica.Header{Type: replica.TypeAck}); <-l.Done() }, why: "instead of"},
		"another protocol": {standby: func(x *pairing, l *link.Link) {
			w := x.welcome()
			w.Protocol++
			x.greet(l, w, replica.Cards{})
		}, why: "replica protocol"},
		"another limit": {standby: func(x *pairing, l *link.Link) {
			w := x.welcome()
			w.Limit++
			x.greet(l, w, replica.Cards{})
		}, why: "detection.limit"},
		"a smaller MTU": {change: func(x *pairing) { x.o.Machine.Ports = []spec.Port{{Name: "in", Uplink: "up"}} },
			standby: func(x *pairing, l *link.Link) { x.greet(l, x.welcome(), replica.Cards{MTUs: []uint32{1400}}) }, why: "MTU"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.guest.Series == 0 {
				c.guest.Series = 10
			}
			x := newPairing(t, c.guest)
			if c.change != nil {
				c.change(x)
			}
			if c.standby != nil {
				x.standby = func(l *link.Link) { c.standby(x, l) }
			}
			x.p = Start(t.Context(), x.o)
			defer x.p.Stop()
			e := x.next()
			if _, ok := e.(pair.SeedFailed); !ok {
				t.Errorf("%#v", e)
			}
			want(t, e, c.why)
		})
	}
}

// TestAStandbyThatBreaksThePair ends the session, with the reason.
func TestAStandbyThatBreaksThePair(t *testing.T) {
	for name, c := range map[string]struct {
		says func(*link.Link)
		why  string
	}{
		"an epoch that was not sent": {func(l *link.Link) { _ = l.Send(replica.Header{Type: replica.TypeAck, Epoch: 99}) }, "acknowledges epoch 99"},
		"it leaves": {func(l *link.Link) {
			_ = l.Send(replica.Header{Type: replica.TypeBye}, replica.Bye{Reason: "its daemon ends"}.Append(nil))
		}, "its daemon ends"},
		"its copy is damaged":  {func(l *link.Link) { l.Reject(replica.RejectReplica, errors.New("a page is wrong")) }, "a page is wrong"},
		"ports of another":     {func(l *link.Link) { _ = l.Send(replica.Header{Type: replica.TypePorts}, replica.Ports{{}}.Append(nil)) }, "1 ports"},
		"what a primary says":  {func(l *link.Link) { _ = l.Send(replica.Header{Type: replica.TypeHandOver}) }, "only a primary sends"},
		"input that is stored": {func(l *link.Link) { _ = l.Send(replica.Header{Type: replica.TypeInputStored}, []byte{1}) }, "input-stored"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPairing(t, falseqemu.Guest{Seed: 3, Dirty: 2, Device: 64, Series: 10})
			x.standby = func(l *link.Link) {
				if x.greet(l, x.welcome(), replica.Cards{}) {
					c.says(l)
					for _, _, err := l.Receive(); err == nil; _, _, err = l.Receive() {
					}
				}
			}
			x.start()
			want(t, x.play(func() bool { return false }), c.why)
		})
	}
}

// TestPorts of the standby are told, and that it has taken over.
func TestPorts(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Seed: 3, Dirty: 2, Device: 64, Series: 10})
	x.o.Machine.Ports = []spec.Port{{Name: "in", Uplink: "up", Tap: "tap"}}
	var there []gate.Link
	x.o.LinksThere = func(all []gate.Link) { there = all }
	x.standby = func(l *link.Link) {
		if x.greet(l, x.welcome(), replica.Cards{MTUs: []uint32{1500}}) {
			_ = l.Send(replica.Header{Type: replica.TypePorts}, replica.Ports{{Uplink: replica.End{State: "down"}, Tap: replica.End{State: "up"}}}.Append(nil))
			_ = l.Send(replica.Header{Type: replica.TypeTookOver, Generation: 4}, replica.TookOver{Host: "b"}.Append(nil))
			for _, _, err := l.Receive(); err == nil; _, _, err = l.Receive() {
			}
		}
	}
	x.start()
	if e, ok := x.play(func() bool { return false }).(pair.PeerTookOver); !ok || e.Generation != 4 {
		t.Fatalf("%#v", e)
	}
	if len(there) != 2 || there[0].Up() || there[0].Name != "up" || !there[1].Up() || there[1].Name != "tap" {
		t.Errorf("%+v", there)
	}
}

// TestAQEMUThatHangs is ended where the standby holds an epoch; elsewhere the protection is
// given up.
func TestAQEMUThatHangs(t *testing.T) {
	for name, c := range map[string]struct {
		guest  falseqemu.Guest
		killed bool
		why    string
	}{
		"in the first copy":       {falseqemu.Guest{Fault: falseqemu.StallsFirst, Seed: 3, Series: 10}, false, "in the first copy"},
		"in the first checkpoint": {falseqemu.Guest{Hang: 1, Seed: 1, Dirty: 1, Series: 10}, false, "in a checkpoint"},
		"in a later one":          {falseqemu.Guest{Hang: 3, Seed: 1, Dirty: 1, Series: 10}, true, "in a checkpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPairing(t, c.guest)
			x.start()
			e := x.play(func() bool { return false })
			want(t, e, c.why)
			if _, lost := e.(pair.MachineLost); lost != c.killed {
				t.Errorf("%#v", e)
			}
			if c.killed {
				<-x.qemu.Ending()
			}
			for e := range x.told {
				if e.Kind == status.QEMUHangs {
					break
				}
			}
		})
	}
}

// TestABrokenStream ends the checkpoints.
func TestABrokenStream(t *testing.T) {
	for fault, why := range map[string]string{
		falseqemu.Garbage:       "first copy",
		falseqemu.BadCheckpoint: "dirty pages of epoch 1",
	} {
		x := newPairing(t, falseqemu.Guest{Fault: fault, Seed: 3, Dirty: 1, Device: 64, Series: 10})
		x.start()
		want(t, x.play(func() bool { return false }), why)
	}
}

// TestOutputThatPasses does so as long as the standby is heard.
func TestOutputThatPasses(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Seed: 3, Dirty: 2, Device: 64, Series: 10})
	x.o.Machine.Protection.Output = spec.Pass
	x.start()
	if e := x.play(x.committed(2)); e != nil || x.wires.count("pass") == 0 {
		t.Errorf("%#v", e)
	}
	x.p.Stop()
	if x.wires.count("pass no more") != 1 {
		t.Error("it passes still")
	}
}

// TestALateAcknowledgement: the arbiter is asked before output leaves, until it answers.
func TestALateAcknowledgement(t *testing.T) {
	for name, c := range map[string]struct {
		answers func(*pairing)
		lost    bool
	}{
		"the voice is here": {func(x *pairing) { x.holds <- true }, false},
		"another has it":    {func(x *pairing) { x.holds <- false }, true},
		"the arbiter answers": {func(x *pairing) {
			ask := x.o.Holds
			silent := true
			x.o.Holds = func(ctx context.Context, generation uint64) (bool, error) {
				if silent {
					silent = false
					return false, errors.New("no quorum")
				}
				return ask(ctx, generation)
			}
			x.holds <- true
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPairing(t, falseqemu.Guest{Seed: 3, Dirty: 2, Device: 64, Series: 10})
			c.answers(x)
			late := true
			x.spoken = func() (bool, bool) {
				all := !late
				late = false
				return all, true
			}
			x.start()
			e := x.play(x.committed(2))
			if _, lost := e.(pair.LinkLost); lost != c.lost {
				t.Errorf("%#v", e)
			}
		})
	}
}

// TestAClosedDoor lets nothing leave, and says so.
func TestAClosedDoor(t *testing.T) {
	x := newPairing(t, falseqemu.Guest{Seed: 3, Dirty: 2, Device: 64, Series: 10})
	x.spoken = func() (bool, bool) { return false, false }
	x.start()
	if e, ok := x.play(func() bool { return false }).(pair.EpochAcked); !ok || len(x.released) > 0 {
		t.Errorf("%#v, %v", e, x.released)
	}
}

func TestTornCheckpointsRest(t *testing.T) {
	if a, b, c := tornWait(1), tornWait(2), tornWait(100); a != tornRest || b != 2*tornRest || c != tornMost {
		t.Error(a, b, c)
	}
	if m := status.TornMessage(3); !strings.Contains(m, "3 checkpoints") {
		t.Error(m)
	}
}
