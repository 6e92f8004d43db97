package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/daemon"
	"github.com/stillpoint-ft/stillpoint/hostd/fault"
	"github.com/stillpoint-ft/stillpoint/hostd/gate"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// host of the world: what survives its daemon.
type host struct {
	w    *world
	name string
	dir  string
	card *card
	up   *uplink

	mu     sync.Mutex
	inc    *incarnation // nil while there is no daemon
	count  int
	states int
	q      *qemu
	all    []*incarnation
	traps  []*trap
}

// trap is set for a daemon that reaches a step.
type trap struct {
	label string
	spare int // how often it is passed first
	do    func(*incarnation)
}

func newHost(w *world, name string) *host {
	h := &host{w: w, name: name, dir: filepath.Join(w.dir, name), card: &card{}, up: &uplink{room: -1}}
	if err := os.MkdirAll(h.stateDir(), 0o700); err != nil {
		panic(err)
	}
	return h
}

// stateDir is called with mu held, once other goroutines know the host.
func (h *host) stateDir() string { return filepath.Join(h.dir, fmt.Sprint("state.", h.states)) }

func (h *host) process() *qemu {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.q
}

func (h *host) own(q *qemu) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.q = q
}

func (h *host) gone(q *qemu) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.q == q {
		h.q = nil
	}
}

func (h *host) current() *incarnation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inc
}

// incarnation is one daemon of a host.
type incarnation struct {
	host     *host
	number   int
	d        *daemon.Daemon
	api      control.HostdServer
	listener *listener
	ctx      context.Context
	cancel   context.CancelFunc
	ended    chan struct{}
	dead     atomic.Bool
	died     chan struct{}
	mu       sync.Mutex
	owned    []io.Closer // what ends with the daemon
}

func (i *incarnation) name() string { return fmt.Sprintf("%s.%d", i.host.name, i.number) }

func (i *incarnation) isDead() bool { return i.dead.Load() }

func (i *incarnation) adopt(c io.Closer) {
	i.mu.Lock()
	i.owned = append(i.owned, c)
	i.mu.Unlock()
	if i.isDead() {
		c.Close()
	}
}

// start a daemon, unless there is one.
func (h *host) start() {
	h.mu.Lock()
	if h.inc != nil || h.w.isOver() {
		h.mu.Unlock()
		return
	}
	h.count++
	i := &incarnation{host: h, number: h.count, listener: newListener(), ended: make(chan struct{}), died: make(chan struct{})}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	i.d = daemon.New(daemon.Options{Config: h.config(), Arbiter: asker{i}, Faults: i.reach, Log: h.w.logger(i), Version: "sim", Accel: "kvm",
		Hypervisor: hypervisor{i}, Network: view{i}, OpenGate: func(o gate.Options) (*gate.Gate, error) {
			o.Wires = wires{i}
			return gate.Open(o)
		}})
	i.api = i.d.API()
	h.inc = i
	h.all = append(h.all, i)
	h.mu.Unlock()
	h.w.log("%s: the daemon starts", i.name())
	h.w.tasks.Go(func() {
		defer close(i.ended)
		err := i.d.Run(i.ctx, i.listener, func(ctx context.Context) error {
			<-ctx.Done()
			return i.listener.Close()
		})
		h.w.log("%s: the daemon has ended, dead %v, %v", i.name(), i.isDead(), err)
	})
}

const detectionLimit = 500 * time.Millisecond

func (h *host) config() config.Config {
	c := config.Default()
	c.Host, c.StateDir, c.RAMDir, c.RunDir = h.name, h.stateDir(), h.dir, h.dir
	for _, n := range h.w.names {
		if n != h.name {
			c.Peers = append(c.Peers, config.Peer{Name: n, Address: n, Spare: h.w.spares})
		}
	}
	c.Detection.Heartbeat, c.Detection.Limit = yamlfile.Duration(100*time.Millisecond), yamlfile.Duration(detectionLimit)
	c.Detection.QEMU = yamlfile.Duration(time.Second)
	c.Limits.DeltaCache = 1 << 20
	return c
}

// reach is the daemon's hook at the steps of an epoch.
func (i *incarnation) reach(label string, epoch uint64) {
	if i.isDead() {
		return
	}
	if label == fault.Storing {
		i.host.w.oracle.stores(i.host.name, epoch)
	}
	if t := i.host.sprung(label); t != nil {
		t.do(i)
	}
}

func (h *host) set(t *trap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.traps = append(h.traps, t)
}

func (h *host) disarm() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.traps = nil
}

func (h *host) sprung(label string) *trap {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, t := range h.traps {
		if t.label != label {
			continue
		}
		if t.spare--; t.spare >= 0 {
			continue
		}
		h.traps = append(h.traps[:k:k], h.traps[k+1:]...)
		return t
	}
	return nil
}

// crash ends the daemon at once: nothing that it still does has an effect.
func (i *incarnation) crash(silent bool) {
	if i.dead.Swap(true) {
		return
	}
	h := i.host
	h.w.log("%s: the daemon dies", i.name())
	close(i.died)
	for _, w := range append(h.card.opened(), h.up.opened()...) {
		if w.i == i {
			w.Close()
		}
	}
	i.listener.Close()
	h.w.net.abandon(i, silent)
	i.mu.Lock()
	owned := i.owned
	i.mu.Unlock()
	for _, c := range owned {
		c.Close()
	}
	h.mu.Lock()
	from := h.stateDir()
	h.states++
	if err := os.CopyFS(h.stateDir(), os.DirFS(from)); err != nil && !errors.Is(err, os.ErrNotExist) {
		panic(err)
	}
	if h.inc == i {
		h.inc = nil
	}
	h.mu.Unlock()
	i.cancel()
}

// leave ends the daemon in good order.
func (i *incarnation) leave(limit time.Duration) bool {
	i.cancel()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-i.ended:
	case <-i.died:
	case <-t.C:
		return false
	}
	i.host.mu.Lock()
	defer i.host.mu.Unlock()
	if i.host.inc == i {
		i.host.inc = nil
	}
	return true
}

func (c *card) opened() []*wire {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*wire(nil), c.wires...)
}

func (u *uplink) opened() []*wire {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*wire(nil), u.wires...)
}

// call is an operator's.
type call struct {
	what  string
	began time.Time
}

// call the API of a host's daemon, as an operator who waits for the answer.
func (h *host) call(what string, f func(context.Context, control.HostdServer) error) error {
	i := h.current()
	if i == nil {
		return errors.New("there is no daemon")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h.w.tasks.Go(func() {
		select {
		case <-i.died:
			cancel()
		case <-i.ctx.Done(): // the server stops
			cancel()
		case <-ctx.Done():
		}
	})
	done := h.w.began(what + " on " + i.name())
	err := f(ctx, i.api)
	done(err)
	return err
}

// events listens for a while.
type events struct {
	grpc.ServerStream
	ctx context.Context
}

func (e events) Context() context.Context { return e.ctx }

func (e events) Send(*control.Event) error { return nil }

func (w *world) logger(i *incarnation) hclog.Logger {
	if !w.verbose {
		return hclog.NewNullLogger()
	}
	return hclog.New(&hclog.LoggerOptions{Name: i.name(), Level: hclog.Debug, Output: logWriter{w}, DisableTime: true})
}

type logWriter struct{ w *world }

func (l logWriter) Write(b []byte) (int, error) {
	l.w.log("%s", string(b[:max(len(b)-1, 0)]))
	return len(b), nil
}
