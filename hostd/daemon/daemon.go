// Package daemon is hostd's run loop: it wires machines, gates, captures,
// replicas, links and the arbiter together, and serves the control API. What
// a machine's pair does is decided by the pure role machine in hostd/pair;
// this package only carries it out.
package daemon

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/api"
	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/link"
	"github.com/stillpoint-ft/stillpoint/hostd/machine"
	"github.com/stillpoint-ft/stillpoint/hostd/pki"
	"github.com/stillpoint-ft/stillpoint/hostd/policy"
	"github.com/stillpoint-ft/stillpoint/hostd/replica"
	"github.com/stillpoint-ft/stillpoint/hostd/spec"
	"github.com/stillpoint-ft/stillpoint/hostd/status"
	"github.com/stillpoint-ft/stillpoint/hostd/voice"
	"github.com/stillpoint-ft/stillpoint/proto/colo"
)

// Arbiter is the test-and-set that decides which host speaks for a machine.
type Arbiter interface {
	Current(ctx context.Context, machine string) (arbiter.Record, error)
	// TestAndSet stores next if the machine's generation is expect; a
	// *arbiter.LostError tells the record that stands instead.
	TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error)
}

// Options of a Daemon.
type Options struct {
	Config   config.Config
	Identity Identity
	Arbiter  Arbiter
	// Supervise starts a supervisor that outlives the daemon, and returns its process;
	// nil: there is none.
	Supervise func() (pid int, err error)
	// Keep is the command that keeps what it reads, descriptor 3 in the first file, 4 in
	// the second, with an older part of each: of limit bytes together. It outlives the
	// daemon.
	Keep func(files []string, limit int64) *exec.Cmd
	// User that QEMU runs as; nil: the daemon's.
	User *machine.User
	// GoesDown says that this daemon ends because its host does; nil: that is not known. It
	// may take as long as its context.
	GoesDown func(context.Context) bool
	// Member of the arbiter on this host; nil: there is none.
	Member  Member
	Faults  fault.Hook
	Log     hclog.Logger
	Version string
	// Accel is kvm or tcg, as the configuration says or a probe has found.
	Accel string
	// What the daemon works with. What is nil is this host's own: its QEMUs, its
	// interfaces, TLS with the Identity.
	Hypervisor Hypervisor
	OpenGate   func(gate.Options) (*gate.Gate, error)
	Network    Network
}

// Daemon is one host's hostd.
type Daemon struct {
	config     config.Config
	identity   Identity
	supervisor supervisor
	member     Member
	arbiter    Arbiter
	faults     fault.Hook
	log        hclog.Logger
	version    string
	accel      string
	user       *machine.User
	keep       func(files []string, limit int64) *exec.Cmd
	goesDown   func(context.Context) bool
	hypervisor Hypervisor
	openGate   func(gate.Options) (*gate.Gate, error)
	network    Network
	events     status.Events
	ctx        context.Context
	end        context.CancelFunc
	tasks      tasks
	started    time.Time
	slots      policy.Slots
	voices     *voice.Host
	// arbiterDown is why the arbiter cannot be asked; nil while it can.
	arbiterDown atomic.Pointer[string]
	// withdrawing: no machine is protected any more.
	withdrawing atomic.Bool

	mu     sync.Mutex
	guests map[string]*guest
	busy   map[string]chan struct{} // names whose guest is being made or removed: reserve.go
}

// New makes a daemon, which does nothing before Run.
func New(o Options) *Daemon {
	d := &Daemon{config: o.Config, identity: o.Identity, arbiter: o.Arbiter, faults: o.Faults, log: o.Log, version: o.Version,
		supervisor: supervisor{start: o.Supervise}, member: o.Member, accel: o.Accel, user: o.User, keep: o.Keep, goesDown: o.GoesDown, hypervisor: o.Hypervisor, openGate: o.OpenGate, network: o.Network,
		started: time.Now(), guests: map[string]*guest{}, busy: map[string]chan struct{}{}}
	d.voices = voice.NewHost(d.config.Host, d.arbiter, d.detectionLimit())
	d.ctx, d.end = context.WithCancel(context.Background())
	if d.hypervisor == nil {
		d.hypervisor = processes{}
	}
	if d.openGate == nil {
		d.openGate = gate.Open
	}
	if d.network == nil {
		d.network = overTLS{d.identity}
	}
	return d
}

// Serve runs a daemon until the context ends. Machines keep running, but
// silently: without a daemon nothing of theirs reaches the network.
func Serve(ctx context.Context, o Options) error {
	d := New(o)
	defer d.end()
	for _, dir := range []string{o.Config.StateDir, o.Config.RunDir, o.Config.RAMDir} {
		if err := machine.PrivateDirectory(dir); err != nil {
			return fmt.Errorf("use the daemon's directories: %w", err)
		}
	}
	peers, err := net.Listen("tcp", o.Config.Listen)
	if err != nil {
		return fmt.Errorf("listen for peers: %w", err)
	}
	socket, err := api.Listen(o.Config.ControlSocket)
	if err != nil {
		peers.Close()
		return err
	}
	return d.serve(ctx, peers, socket)
}

// serve peers and commands.
func (d *Daemon) serve(ctx context.Context, peers, socket net.Listener) error {
	mux := pki.NewMux(peers, d.identity.Server(protocolReplica, protocolControl), d.log)
	replicas, remote := mux.Listener(protocolReplica), mux.Listener(protocolControl)
	d.tasks.Go(func() {
		if err := mux.Serve(ctx); err != nil {
			d.log.Error("no more peers are accepted", "error", err)
		}
	})
	d.tasks.Go(func() { d.serveRemote(ctx, remote) })
	d.log.Info("serving", "host", d.config.Host, "peers", peers.Addr(), "control", socket.Addr(), "accel", d.accel)
	return d.Run(ctx, replicas, func(ctx context.Context) error { return api.Serve(ctx, socket, d.config.Host, d) })
}

// Run takes care of what an earlier daemon left, accepts peers, and has commands
// served, until the context ends; the listener must be closed then, too. Guests
// outlive it a little: their pairs are left in good order. It is called once.
func (d *Daemon) Run(ctx context.Context, replicas net.Listener, commands func(context.Context) error) error {
	defer d.end()
	d.tasks.Go(func() { d.acceptPeers(replicas) })
	d.tasks.Go(d.keepSupervisor)
	d.tasks.Go(d.watchMember)
	d.tasks.Go(d.watchArbiter)
	d.recover()
	err := commands(ctx)
	d.withdraw()
	d.end()
	d.log.Info("this daemon ends; the machines that it still has run on")
	d.leaveGuests(d.atRest)
	d.tasks.Wait()
	d.leaveGuests(func(*guest) bool { return true }) // and those that were being made
	return err
}

func (d *Daemon) leaveGuests(which func(*guest) bool) {
	for _, g := range d.list() {
		if which(g) {
			g.leave()
		}
	}
}

// atRest reports that nobody is making or removing the guest.
func (d *Daemon) atRest(g *guest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.busy[g.name] == nil
}

func (d *Daemon) acceptPeers(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		if !d.tasks.Go(func() { d.servePeer(conn) }) {
			conn.Close()
		}
	}
}

func (d *Daemon) detectionLimit() time.Duration { return time.Duration(d.config.Detection.Limit) }

func (d *Daemon) linkOptions(log hclog.Logger) link.Options {
	return link.Options{Heartbeat: time.Duration(d.config.Detection.Heartbeat),
		Limit: time.Duration(d.config.Detection.Limit), Log: log.Named("link")}
}

func (d *Daemon) peerAddress(name string) (string, error) {
	for _, p := range d.config.Peers {
		if p.Name == name {
			return p.Address, nil
		}
	}
	return "", fmt.Errorf("peer %q is not in the configuration", name)
}

func (d *Daemon) machineOptions(s spec.Machine, incoming bool, log hclog.Logger) machine.Options {
	o := machine.Options{Spec: s, Binary: d.config.QEMU.Binary, Accel: d.accel, Sandbox: d.config.QEMU.Sandbox, User: d.user, ExtraArgs: d.config.QEMU.ExtraArgs,
		RunDir: d.config.RunDir, RAMDir: d.config.RAMDir, StateDir: string(d.saved()),
		Incoming: incoming, Log: log}
	if d.keep != nil {
		o.Keep = func(files []string) *exec.Cmd { return d.keep(files, int64(d.config.Limits.Console)) }
	}
	return o
}

// privateMemory bounds what a machine's blocks other than its RAM may take:
// video memory, ROMs, tables.
const privateMemory = 256 << 20

func (d *Daemon) replicaOptions(s spec.Machine, ramFile string) replica.Options {
	return replica.Options{RAMFile: ramFile, RAMBlock: machine.RAMBlock, RAMSize: uint64(s.Memory),
		Private: privateMemory, Device: uint64(d.config.Limits.DeviceState), Output: uint64(d.config.Limits.HeldOutput) * 2}
}

func (d *Daemon) streamLimits(s spec.Machine) colo.Limits {
	l := colo.DefaultLimits()
	l.RAM = uint64(s.Memory) + privateMemory
	l.DeviceState = uint64(d.config.Limits.DeviceState)
	return l
}

func (d *Daemon) find(name string) *guest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.guests[name]
}

func (d *Daemon) add(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.guests[g.name] = g
}

func (d *Daemon) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.guests, name)
}

// retire removes a guest whose part here is over, without anybody waiting. It
// is known until nothing of it is left: what comes in its place uses the same
// files and taps, and has to wait. A daemon that ends leaves it to the next.
func (d *Daemon) retire(g *guest) {
	g.retired.Store(true)
	d.tasks.Go(func() {
		g.remove()
		d.forgetThis(g)
	})
}

// forgetThis guest, unless another has come in its place.
func (d *Daemon) forgetThis(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.guests[g.name] == g {
		delete(d.guests, g.name)
	}
}
