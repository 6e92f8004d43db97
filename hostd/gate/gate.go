package gate

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/lane"
	"github.com/stillpoint-ft/stillpoint/hostd/netdev"
	"github.com/stillpoint-ft/stillpoint/hostd/segment"
	"github.com/stillpoint-ft/stillpoint/hostd/station"
)

// Port names the two ends of one wire.
type Port struct {
	Name   string
	Tap    string
	Uplink string
	MAC    [6]byte
	// Addresses are the guest's, as far as its specification tells them.
	Addresses []netip.Addr
}

// Options of a Gate.
type Options struct {
	Ports []Port
	// HeldOutput and HeldInput bound what waits, in bytes; beyond them frames
	// are dropped and counted, as a full queue of a network card would.
	HeldOutput, HeldInput int
	// AtOnce says of a frame, which begins with its Ethernet header, that it leaves
	// before its epoch is committed, as long as PassUntil allows; nil: none does. It
	// must not block.
	AtOnce func(frame []byte) bool
	// InputDelay bounds how long an arriving frame waits for the guest to take it, and
	// for nothing else; 0 is DefaultInputDelay.
	InputDelay time.Duration
	// Changed is told when an uplink or a tap goes, or is back. It must not block, and
	// may be called before Open has returned.
	Changed func(Link)
	// Wires open the ports' interfaces; nil for those of this host.
	Wires Wires
	Log   hclog.Logger
}

type outputMode int

const (
	silent outputMode = iota
	passing
	holding
	// committing: each frame is held until its epoch is committed, unless it leaves
	// at once.
	committing
)

type inputMode int

const (
	dropping inputMode = iota
	waiting
	open
	diverting
)

// Gate is the wire of one machine. It starts silent: nothing leaves, what
// arrives is dropped. All methods may be called concurrently.
type Gate struct {
	log     hclog.Logger
	ports   []*port
	wires   Wires
	links   *netdev.Watcher // nil where the wires are others than this host's interfaces
	changed func(Link)
	now     func() time.Duration // since the gate was opened
	limit   struct {
		output, input int
		delay         time.Duration
	}
	held  chan struct{}
	stats counters
	wg    sync.WaitGroup

	out struct {
		sync.Mutex
		mode  outputMode
		ended bool // Silence is for ever
		open  *Output
		cut   []*Output // closed epochs that wait for their commit, oldest first
		free  []*Output
		bytes int
		batch [sendBatch][]byte // being sent
		// waiting counts the bytes that wait for the uplinks, and withheld says
		// that they wait for more than that.
		waiting   int
		withheld  bool
		atOnce    func(frame []byte) bool
		until     time.Time  // frames may leave at once until then
		releasing sync.Mutex // orders those who let what is held leave
	}
	in struct {
		turnLock
		input
	}
	toLog   chan struct{}
	closed  chan struct{}
	closing sync.Once
	// patience is how long a frame waits for its uplink.
	patience time.Duration
	blocked  chan struct{} // a tap has no room
}

type port struct {
	Port
	index  int
	tap    Tap
	uplink Wire
	egress *egress
	// What is known of the two, which never waits for a lock of the gate's.
	uplinkKnown, tapKnown *knownLink
	fromTap               []byte
	fromUplink            []byte
	learned               *station.Book
	drain                 func(fd int) // drainTapLocked, made once
	// fromTapCut and fromUplinkCut cut what is in tunnels, when it is read.
	fromTapCut, fromUplinkCut segment.Cutter
	toldUncarried             atomic.Bool
	// What follows is guarded by the input's lock.
	//
	// lane holds what arrived, early what was injected and comes before it.
	lane, early lane.Lane
	// passed counts the frames of the log, since it began, that were handed in or given
	// up.
	passed  uint64
	flight  lane.Flight
	blocked bool // the tap had no room
	slow    lane.Clock
	// progress is when the slow clock last saw QEMU take something.
	progress struct {
		taken uint64
		shown time.Duration
	}
	toldOthers, toldRefused bool
	// deaf says that AwaitTaken has given the port up, until QEMU has taken something
	// else than at that time.
	deaf   bool
	deafAt uint64
}

// idle tells whether nothing waits for the port.
func (p *port) idle() bool { return !p.blocked && p.lane.Waiting()+p.early.Waiting() == 0 }

type counters struct {
	released, outputDropped, resent atomic.Uint64
	announced                       atomic.Uint64
	delivered, inputDropped, lost   atomic.Uint64
	logged, unlogged, inputLate     atomic.Uint64
	uncarried                       atomic.Uint64
}

// Stats counts frames since the gate was opened. Dropped ones had no room in the gate,
// or in the kernel in front of it.
type Stats struct {
	HeldFrames, HeldBytes        int
	Released, Dropped, Resent    uint64
	InputHeld                    int
	InputDelivered, InputDropped uint64
	// InputLate is what of InputDropped had waited too long for the guest.
	InputLate uint64
	// Logged frames went to the log; Unlogged are those that the guest has and
	// an asynchronous log had no room for.
	Logged, Unlogged uint64
	// Lost frames could leave, and their uplink did not take them: it was down or
	// too slow, or refused them. Waiting ones, not many, are still tried.
	Lost    uint64
	Waiting int
	// Uncarried frames, of either direction, stood for many in a way that cannot be
	// told or cut, or were too long.
	Uncarried uint64
}

// Open binds the ports' taps and uplinks. It starts three goroutines per port
// and two more, which Close ends and waits for.
func Open(o Options) (*Gate, error) {
	g, err := bind(o)
	if err != nil {
		return nil, err
	}
	for i := range g.ports {
		g.wg.Add(3)
		go g.pump(g.ports[i].Tap, g.ports[i].tap, func(fd int) error { return g.drainTap(i, fd) })
		go g.pump(g.ports[i].Uplink, g.ports[i].uplink, func(fd int) error { return g.drainUplink(i, fd) })
		go g.sendWaiting(g.ports[i])
	}
	g.wg.Add(1)
	go g.keepFeeding()
	if g.links != nil {
		g.wg.Add(1)
		go g.watchLinks()
	}
	return g, nil
}

// bind makes a gate through which nothing moves by itself.
func bind(o Options) (*Gate, error) {
	g := &Gate{log: o.Log, held: make(chan struct{}, 1), toLog: make(chan struct{}, 1),
		blocked: make(chan struct{}, 1), closed: make(chan struct{}), patience: uplinkPatience,
		changed: o.Changed}
	began := time.Now()
	g.now = func() time.Duration { return time.Since(began) }
	g.limit.output, g.limit.input, g.limit.delay = o.HeldOutput, o.HeldInput, o.InputDelay
	if g.limit.delay == 0 {
		g.limit.delay = DefaultInputDelay
	}
	g.out.open, g.out.atOnce = &Output{}, o.AtOnce
	var err error
	if g.wires = o.Wires; g.wires == nil {
		if g.wires, err = openInterfaces(); err != nil {
			return nil, err
		}
		if g.links, err = netdev.OpenWatcher(); err != nil {
			g.Close()
			return nil, err
		}
	}
	for i, p := range o.Ports {
		opened, err := openPort(p, g.wires)
		if err != nil {
			g.Close()
			return nil, fmt.Errorf("open port %s: %w", p.Name, err)
		}
		opened.index = i
		opened.drain = func(fd int) { _, _ = g.drainTapLocked(i, fd, math.MaxInt) }
		g.ports = append(g.ports, opened)
	}
	return g, nil
}

func openPort(p Port, wires Wires) (*port, error) {
	tap, err := wires.OpenTap(p.Tap)
	if err != nil {
		return nil, err
	}
	uplink, err := wires.Open(p.Uplink)
	if err != nil {
		tap.Close()
		return nil, err
	}
	opened := &port{Port: p, tap: tap, uplink: uplink, egress: newEgress(),
		fromTap: make([]byte, netdev.MaxFrame), fromUplink: make([]byte, netdev.MaxFrame)}
	taken, err := tap.Taken()
	if err != nil {
		tap.Close()
		uplink.Close()
		return nil, err
	}
	opened.flight.Start(taken)
	opened.uplinkKnown, opened.tapKnown = newKnownLink(p.Name, p.Uplink, false), newKnownLink(p.Name, p.Tap, true)
	var named []Address
	for _, a := range p.Addresses {
		named = append(named, Address{Addr: a})
	}
	opened.learned = station.NewBook(p.MAC, named...)
	return opened, nil
}

// Close silences the machine and waits for the gate's goroutines.
func (g *Gate) Close() {
	g.Silence()
	g.DropInput()
	g.closing.Do(func() { close(g.closed) })
	for _, p := range g.ports {
		p.tap.Close()
		p.uplink.Close()
	}
	if g.links != nil {
		g.links.Close()
	}
	g.wg.Wait()
	g.in.Lock()
	defer g.in.Unlock()
	g.wires.Close()
}

// pump calls drain whenever the socket is readable, until it is closed.
func (g *Gate) pump(name string, w Wire, drain func(fd int) error) {
	defer g.wg.Done()
	if err := w.Await(drain); err != nil {
		g.log.Error("port stops: its interface is gone", "interface", name, "error", err)
	}
}

// Held signals that output began to wait in the open epoch. One signal may
// stand for many frames.
func (g *Gate) Held() <-chan struct{} { return g.held }

// Stats may be called at any time.
func (g *Gate) Stats() Stats {
	s := Stats{
		Released: g.stats.released.Load(), Dropped: g.stats.outputDropped.Load(), Resent: g.stats.resent.Load(),
		InputDelivered: g.stats.delivered.Load(), InputDropped: g.stats.inputDropped.Load(),
		InputLate: g.stats.inputLate.Load(), Lost: g.stats.lost.Load(), Logged: g.stats.logged.Load(), Unlogged: g.stats.unlogged.Load(),
		Uncarried: g.stats.uncarried.Load(),
	}
	for _, p := range g.ports {
		s.Dropped += p.tap.Overrun()
		s.InputDropped += p.uplink.Overrun()
	}
	g.out.Lock()
	s.HeldBytes = g.out.bytes
	s.HeldFrames = g.out.open.Len()
	for _, o := range g.out.cut {
		s.HeldFrames += o.Len()
	}
	for _, p := range g.ports {
		s.Waiting += p.egress.Len()
	}
	g.out.Unlock()
	g.in.Lock()
	for _, p := range g.ports {
		s.InputHeld += p.lane.Waiting() + p.early.Waiting()
	}
	g.in.Unlock()
	return s
}
