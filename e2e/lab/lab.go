package lab

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Addresses of the topology. The NAT guest stands between client and server;
// where it runs it owns NATInside and NATOutside.
const (
	ClientAddress = "10.1.0.2"
	ServerAddress = "10.2.0.2"
	NATInside     = "10.1.0.1"
	NATOutside    = "10.2.0.1"
	NATInsideMAC  = "52:54:00:5e:00:01"
	NATOutsideMAC = "52:54:00:5e:00:02"
)

// Values of Options.Arbiter and Options.ArbiterMembers.
const (
	ArbiterDirectory = "directory"
	ArbiterEtcd      = "etcd"

	MembersAll     = "all"
	MembersWitness = "witness"
)

// TCP ports of the arbiter's members.
const (
	ArbiterPeerPort   = 7601
	ArbiterClientPort = 7602
)

// Options of a Lab. The zero value makes two hosts that cannot run daemons.
type Options struct {
	// ID distinguishes labs of one process: up to 12 of [a-z0-9]. Default:
	// random.
	ID string
	// Dir is where the lab makes a directory of its own for logs, consoles,
	// state and the arbiter's records. Default: the directory for temporary
	// files.
	Dir string
	// KeepFiles leaves that directory behind.
	KeepFiles bool
	// Hosts is their number, 1 to 9; default 2.
	Hosts int
	// HostdBinary is the daemon to run; QEMU the program that it runs for
	// each machine; Accel auto, kvm or tcg (default auto).
	HostdBinary, QEMU, Accel string
	// Arbiter is what decides who speaks: ArbiterDirectory, a directory that
	// all hosts see (default), or ArbiterEtcd inside the daemons, with a
	// witness and a network of its own.
	Arbiter string
	// ArbiterMembers of an etcd: MembersAll, the hosts and the witness
	// (default), or MembersWitness alone. Their number is odd, so that of an
	// odd number of hosts the last one is no member.
	ArbiterMembers string
	// StateSize in bytes gives each host's StateDir a file system of that
	// size, in memory; see Host.FillState. KeepFiles does not keep it, and an
	// etcd member fills some 130 MB of it at once. Zero: no such file system.
	StateSize int64
	// HugePages puts the guests' RAM into huge pages where the kernel can: a
	// QEMU's end takes the longer the more pages its RAM has.
	HugePages bool
	// FewEvents leaves the events of checkpoints out of what is collected from
	// daemons: of hundreds of machines they are many.
	FewEvents bool
	Log       hclog.Logger
}

// Lab is a running world. Its methods may be called concurrently.
type Lab struct {
	// Name of the lab: the prefix of its namespaces.
	Name string
	// Dir is the directory of the lab's files, ArbiterDir the arbiter's
	// within it.
	Dir, ArbiterDir string
	// Net holds the bridges, Client and Server the ends of the traffic.
	Net, Client, Server *Space
	Hosts               []*Host
	// Witness is nil without etcd.
	Witness *Witness
	// Link joins the hosts; Inside and Outside join them with the client and
	// the server.
	Link, Inside, Outside *Segment
	// Arbiter joins the hosts and the witness; nil without etcd.
	Arbiter *Segment
	// Wire sees every frame at the hosts' uplinks.
	Wire *Observer

	options Options
	log     hclog.Logger
	record  *record
	tls     bool // there are certificates
	cleanup cleanup
	closing sync.Mutex
}

// Available says why a lab cannot be made here, nil if it can.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	return nil
}

// New makes a lab. Daemons do not run yet: see Host.Start. The caller must
// Close it. The context bounds the making only.
func New(ctx context.Context, o Options) (*Lab, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	l := &Lab{
		Name:    fmt.Sprintf("sp-%d-%s", os.Getpid(), o.ID),
		options: o,
		log:     o.Log.Named("lab"),
	}
	if err := l.make(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make lab %s: %w", l.Name, err), l.Close())
	}
	return l, nil
}

// complete fills in defaults and checks the rest.
func (o *Options) complete() error {
	if err := Available(); err != nil {
		return fmt.Errorf("make a lab: %w", err)
	}
	if err := o.defaults(); err != nil {
		return fmt.Errorf("make a lab: %w", err)
	}
	if !nameForm.MatchString("sp-1-"+o.ID) || len(o.ID) > 12 {
		return fmt.Errorf("make a lab: ID %q: want up to 12 of a-z and 0-9", o.ID)
	}
	if o.Hosts < 1 || o.Hosts > 9 {
		return fmt.Errorf("make a lab: %d hosts: want 1 to 9", o.Hosts)
	}
	if o.StateSize < 0 {
		return fmt.Errorf("make a lab: StateSize %d: want bytes, or 0", o.StateSize)
	}
	return o.checkArbiter()
}

func (o *Options) checkArbiter() error {
	if a := o.Arbiter; a != ArbiterDirectory && a != ArbiterEtcd {
		return fmt.Errorf("make a lab: Arbiter %q: want %s or %s", a, ArbiterDirectory, ArbiterEtcd)
	}
	if m := o.ArbiterMembers; m != MembersAll && m != MembersWitness {
		return fmt.Errorf("make a lab: ArbiterMembers %q: want %s or %s", m, MembersAll, MembersWitness)
	}
	return nil
}

func (o *Options) etcd() bool { return o.Arbiter == ArbiterEtcd }

func (o *Options) defaults() (err error) {
	if o.ID == "" {
		var b [4]byte
		rand.Read(b[:]) // never fails
		o.ID = hex.EncodeToString(b[:])
	}
	if o.Hosts == 0 {
		o.Hosts = 2
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	o.Accel = cmp.Or(o.Accel, "auto")
	o.Arbiter = cmp.Or(o.Arbiter, ArbiterDirectory)
	o.ArbiterMembers = cmp.Or(o.ArbiterMembers, MembersAll)
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	for _, path := range []*string{&o.HostdBinary, &o.QEMU} {
		if !strings.Contains(*path, "/") {
			continue // found by PATH
		}
		if *path, err = filepath.Abs(*path); err != nil { // the daemon has its own directory
			return err
		}
	}
	return nil
}

func (l *Lab) make(ctx context.Context) error {
	if err := l.makeDirectories(); err != nil {
		return err
	}
	if err := l.makeTLS(); err != nil {
		return err
	}
	if err := l.makeSpaces(ctx); err != nil {
		return err
	}
	if err := l.connect(ctx); err != nil {
		return err
	}
	wire, err := observe(l)
	if err != nil {
		return err
	}
	l.Wire = wire
	l.cleanup.push("stop the wire observer", wire.close)
	return nil
}

func (l *Lab) makeDirectories() (err error) {
	if l.record, err = newRecord(l.Name); err != nil {
		return err
	}
	l.cleanup.push("remove the lab's directories", l.record.remove)
	if l.Dir, err = filepath.Abs(filepath.Join(l.options.Dir, l.Name)); err != nil {
		return err
	}
	l.ArbiterDir = filepath.Join(l.Dir, "arbiter")
	if err := l.makeDir(); err != nil {
		return err
	}
	if err := l.makeRAM(); err != nil {
		return err
	}
	return os.MkdirAll(l.ArbiterDir, 0o755)
}

func (l *Lab) makeDir() error {
	if l.options.KeepFiles {
		return os.MkdirAll(l.Dir, 0o755)
	}
	return l.record.directory(l.Dir)
}

func (l *Lab) ramDir() string { return filepath.Join(l.record.dir(), "ram") }

// ramSize is an upper bound only.
const ramSize = 64 << 30

// makeRAM makes the file system of the guests' RAM. A kernel that knows no huge
// pages there refuses the option.
func (l *Lab) makeRAM() error {
	if err := os.MkdirAll(l.ramDir(), 0o755); err != nil {
		return err
	}
	if l.options.HugePages {
		if err := l.record.mount(l.ramDir(), ramSize, "huge=within_size"); !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return l.record.mount(l.ramDir(), ramSize)
}

// Host by its name; nil if there is none.
func (l *Lab) Host(name string) *Host {
	for _, h := range l.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Start the daemons of all hosts and the witness, all at once: with etcd none
// answers before enough of them run. NAME=VALUE are added to the environment
// of all.
func (l *Lab) Start(ctx context.Context, env ...string) error {
	return l.StartWith(ctx, nil, env...)
}

// StartWith is Start with more NAME=VALUE for some nodes, by their name. It
// returns the first error, and gives up on the others.
func (l *Lab) StartWith(ctx context.Context, own map[string][]string, env ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var first error
	var once sync.Once
	var all sync.WaitGroup
	for name, start := range l.starts() {
		all.Go(func() {
			if err := start(ctx, slices.Concat(env, own[name])...); err != nil {
				once.Do(func() { first = err })
				cancel()
			}
		})
	}
	all.Wait()
	return first
}

// starts are the ways to start each node, by its name.
func (l *Lab) starts() map[string]func(context.Context, ...string) error {
	starts := map[string]func(context.Context, ...string) error{}
	for _, h := range l.Hosts {
		starts[h.Name] = h.Start
	}
	if l.Witness != nil {
		starts[l.Witness.Name] = l.Witness.Start
	}
	return starts
}

// Close removes everything that the lab made and kills everything that runs
// in it. It may be called again.
func (l *Lab) Close() error {
	l.closing.Lock()
	defer l.closing.Unlock()
	if err := l.cleanup.unwind(); err != nil {
		return fmt.Errorf("close lab %s: %w", l.Name, err)
	}
	return nil
}
