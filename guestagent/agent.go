package guestagent

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/agent"
)

const (
	// Version of the library, as the host sees it.
	Version = "0.1.0"
	// DefaultChannel is the virtio-serial port that an agent looks for.
	DefaultChannel = "org.stillpoint.agent.0"
)

// A Logger gets a message, and keys and values in turn. A *slog.Logger is one, and so is an
// hclog.Logger. Its methods are called from several goroutines at once.
type Logger interface {
	Debug(message string, args ...any)
	Info(message string, args ...any)
	Warn(message string, args ...any)
}

// nobody is the Logger of a program that wants none.
type nobody struct{}

func (nobody) Debug(string, ...any) {}
func (nobody) Info(string, ...any)  {}
func (nobody) Warn(string, ...any)  {}

// Config shapes an agent. The zero value is a good one.
type Config struct {
	// Log gets what an operator should know. Default: nobody.
	Log Logger
	// Channel is the name of the virtio-serial port. Default DefaultChannel.
	Channel string
	// Open opens the channel instead of looking for Channel. It is called again
	// after it failed, and after reading failed; never twice at once. A SetWriteDeadline
	// method of the channel is used if there is one; Close must end a Read. With a Name
	// method the channel is taken for a device file, for which io.EOF is no end.
	Open func() (io.ReadWriteCloser, error)
	// OpenInterface opens network interfaces instead of the kernel's own, for OpenPort: in
	// a test, or where they are of another kind. It may be called from several goroutines
	// at once. The numbers in its options are those to use: no zeros are among them.
	OpenInterface func(name string, o PortOptions) (Device, error)
	// BufferSize is the longest frame in bytes, with a VLAN tag. Default 2048, at most
	// 128 KiB.
	BufferSize int
	// Buffers is how many packets there can be at once, made when first needed.
	// Default 4096, at most 16 million.
	Buffers int
	// MaxClosed is how long the gate stays closed at most for a still point, whatever the
	// host asks for. Default 1 s.
	MaxClosed time.Duration
	// TakeoverLimit is how long the callbacks after a takeover may keep the
	// gate closed. Default 1 s.
	TakeoverLimit time.Duration
	// Retry is the time between two attempts to open the channel or to read
	// from one whose other end is gone. Default 50 ms.
	Retry time.Duration
}

func (c *Config) setDefaults() {
	if c.Log == nil {
		c.Log = nobody{}
	}
	if c.Channel == "" {
		c.Channel = DefaultChannel
	}
	if c.Open == nil {
		name := c.Channel
		c.Open = func() (io.ReadWriteCloser, error) { return openChannel(name) }
	}
	if c.BufferSize <= 0 {
		c.BufferSize = 2048
	}
	if c.OpenInterface == nil {
		size := c.BufferSize
		c.OpenInterface = func(name string, o PortOptions) (Device, error) { return openInterface(name, o, size) }
	}
	if c.Buffers <= 0 {
		c.Buffers = 4096
	}
	for _, d := range []struct {
		value *time.Duration
		to    time.Duration
	}{{&c.MaxClosed, time.Second}, {&c.TakeoverLimit, time.Second}, {&c.Retry, 50 * time.Millisecond}} {
		if *d.value <= 0 {
			*d.value = d.to
		}
	}
}

// A Takeover says that the machine runs on another host than before.
type Takeover struct {
	Generation uint64 // of the pair; grows with each change of host
}

// An Agent is the library at work in an application. Its methods are safe for
// concurrent use.
type Agent struct {
	config Config
	gate   *Gate
	pool   *pool
	cancel context.CancelFunc
	work   sync.WaitGroup
	events chan event
	listed chan struct{} // capacity 1: the list of ports changed

	mu        sync.Mutex
	closed    bool
	ports     []*Port
	callbacks []func(Takeover)
	stats     Stats
}

// Stats are an agent's doings since its start. None ever falls.
type Stats struct {
	StillPoints uint64 // reached and reported
	Missed      uint64 // deadlines without a still point
	Expired     uint64 // times that the gate opened by itself
	Takeovers   uint64
	Stale       uint64 // frames of other sessions or older requests
	Skipped     uint64 // bytes of the channel that were no frame
	Starved     uint64 // times that the application held all buffers
}

// Start starts an agent. That there is no host, or no channel to one, is no
// error: it may come. An error says that the configuration asks for more than makes sense:
// buffers of more than 128 KiB, or more than 16 million of them.
func Start(c Config) (*Agent, error) {
	c.setDefaults()
	if c.BufferSize > 1<<17 || c.Buffers > 1<<24 {
		return nil, fmt.Errorf("start agent: %d buffers of %d bytes are more than makes sense", c.Buffers, c.BufferSize)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &Agent{
		config: c, gate: NewGate(), pool: newPool(c.BufferSize, c.Buffers),
		cancel: cancel, events: make(chan event), listed: make(chan struct{}, 1),
	}
	a.work.Add(2)
	go func() { defer a.work.Done(); a.read(ctx) }()
	go func() { defer a.work.Done(); a.run(ctx) }()
	return a, nil
}

// Close opens the gate for good, closes the ports, and waits for the agent's
// goroutines, callbacks included, so it must not be called from one. What waits in RxWait
// or in a Source returns ErrClosed; the application must have stopped using its queues
// otherwise. It returns the first error of a device that did not close well. A second call
// does nothing.
func (a *Agent) Close() error {
	a.mu.Lock()
	ports := a.ports
	a.ports, a.closed = nil, true
	a.mu.Unlock()
	a.cancel()
	a.work.Wait()
	a.gate.Open()
	var first error
	for _, p := range ports {
		if err := p.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// OpenPort opens a network interface, which must be up. It needs CAP_NET_RAW, and
// CAP_NET_ADMIN to turn off receive offloads and to replace the queue discipline. Errors
// say what is missing: an interface of that name, a right, buffers as long as its frames
// (Config.BufferSize). By errors.Is, one of a closed agent is ErrClosed, and one on another
// system than Linux errors.ErrUnsupported.
func (a *Agent) OpenPort(name string, o PortOptions) (*Port, error) {
	o.setDefaults()
	d, err := a.config.OpenInterface(name, o)
	if err != nil {
		return nil, fmt.Errorf("open interface %s: %w", name, err)
	}
	return a.OpenDevice(d)
}

// OpenDevice puts a device behind the gate. The port closes it, and so does OpenDevice
// itself where it fails: if the device has more than 1024 queues of a kind, and with
// ErrClosed once the agent is closed.
func (a *Agent) OpenDevice(d Device) (*Port, error) {
	info := d.Info()
	if info.RxQueues > 1<<10 || info.TxQueues > 1<<10 {
		d.Close()
		return nil, fmt.Errorf("open device %s: %d receive and %d transmit queues, at most %d", info.Name, info.RxQueues, info.TxQueues, 1<<10)
	}
	p := newPort(d, a.gate, a.pool)
	p.detach = a.forget
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		d.Close()
		return nil, fmt.Errorf("open device %s: %w", info.Name, ErrClosed)
	}
	a.ports = append(a.ports[:len(a.ports):len(a.ports)], p)
	a.mu.Unlock()
	a.announce()
	return p, nil
}

func (a *Agent) forget(p *Port) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var rest []*Port
	for _, other := range a.ports {
		if other != p {
			rest = append(rest, other)
		}
	}
	a.ports = rest
	a.announce()
}

// announce has the host told about the ports.
func (a *Agent) announce() {
	select {
	case a.listed <- struct{}{}:
	default:
	}
}

// OnTakeover registers a function that is called after each takeover, in the
// order of registration and before packets flow: the place to set up again
// what a checkpoint cannot carry. The gate is closed meanwhile, so it can
// neither receive nor Alloc; it must return within Config.TakeoverLimit, after which
// packets flow all the same. It runs on a goroutine of the agent's. Should the machine be
// taken over again while it hangs, it is called again meanwhile. A function that is
// registered after a takeover is not called for it.
func (a *Agent) OnTakeover(f func(Takeover)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.callbacks = append(a.callbacks[:len(a.callbacks):len(a.callbacks)], f)
}

// Gate is what the agent's ports stand behind, for applications that take packets in past
// the ports. The agent opens and closes it; the application should not.
func (a *Agent) Gate() *Gate { return a.gate }

// Stats returns the figures so far.
func (a *Agent) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.Starved = a.pool.starved.Load()
	return s
}

func (a *Agent) welcome() agent.Welcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := agent.Welcome{Library: Version}
	for _, p := range a.ports {
		w.Ports = append(w.Ports, agent.PortInfo{
			Name: p.info.Name, RxQueues: uint16(p.info.RxQueues), TxQueues: uint16(p.info.TxQueues),
		})
	}
	return w
}

func (a *Agent) counters() []agent.PortCounters {
	a.mu.Lock()
	ports := a.ports
	a.mu.Unlock()
	c := make([]agent.PortCounters, len(ports))
	for i, p := range ports {
		c[i] = agent.PortCounters{Rx: p.device.Received(), Tx: p.sent()}
	}
	return c
}
