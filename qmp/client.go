package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
	"github.com/hashicorp/go-hclog"
)

// closeLimit is how long Close waits for a monitor that does not let go.
const closeLimit = 5 * time.Second

// Client gives typed verbs and events over one Monitor. Its methods may be
// called concurrently.
type Client struct {
	monitor  goqemu.Monitor
	name     string
	log      hclog.Logger
	hub      *hub
	ordinary *lane
	urgent   *lane // nil unless out-of-band commands were negotiated
	owned    sync.WaitGroup
	// cancel ends the monitor's event stream.
	cancel   context.CancelFunc
	closing  sync.Once
	closeErr error
}

// outOfBander is a monitor that may have negotiated out-of-band commands.
type outOfBander interface{ OutOfBand() bool }

// New connects a monitor and serves it until Close. It owns the monitor from
// here on, and disconnects it also when it fails. The context bounds the
// connecting only. A logger of nil is silent.
//
// The monitor must close its channel of events once their context has ended
// and it was disconnected, and must then fail a pending Run.
func New(ctx context.Context, monitor goqemu.Monitor, log hclog.Logger) (*Client, error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	c := &Client{monitor: monitor, name: nameOf(monitor), log: log, hub: newHub(), ordinary: newLane()}
	events, err := c.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to QMP monitor %s: %w", c.name, err)
	}
	c.owned.Go(func() { c.pump(events) })
	c.owned.Go(func() { c.ordinary.serve(monitor, c.hub.done) })
	if m, ok := monitor.(outOfBander); ok && m.OutOfBand() {
		c.urgent = newLane()
		c.owned.Go(func() { c.urgent.serve(monitor, c.hub.done) })
	}
	return c, nil
}

func nameOf(monitor goqemu.Monitor) string {
	if s, ok := monitor.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", monitor)
}

type connected struct {
	events <-chan goqemu.Event
	err    error
}

// connect bounds what has no deadline of its own.
func (c *Client) connect(ctx context.Context) (<-chan goqemu.Event, error) {
	streaming, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	result := make(chan connected, 1)
	c.owned.Go(func() {
		if err := c.monitor.Connect(); err != nil {
			result <- connected{err: err}
			return
		}
		events, err := c.monitor.Events(streaming)
		result <- connected{events, err}
	})
	select {
	case r := <-result:
		if r.err != nil {
			cancel()
			c.owned.Go(func() { c.monitor.Disconnect() }) // the first reason says enough
			return nil, errors.Join(r.err, c.reap())
		}
		return r.events, nil
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("no answer: %w", ctx.Err()), c.abandon(result))
	}
}

// abandon reaps a connection that came too late or never.
func (c *Client) abandon(result <-chan connected) error {
	c.cancel()
	c.owned.Go(func() { c.monitor.Disconnect() })
	if err := c.reap(); err != nil {
		return err
	}
	r := <-result
	if r.err != nil {
		return nil
	}
	c.owned.Go(func() { drain(r.events) })
	c.owned.Go(func() { c.monitor.Disconnect() }) // it had connected after all
	return c.reap()
}

func drain(events <-chan goqemu.Event) {
	for range events {
	}
}

// pump drains the monitor's events as long as there are any, also while
// closing: a monitor may be stuck in handing one over.
func (c *Client) pump(events <-chan goqemu.Event) {
	for e := range events {
		c.hub.publish(newEvent(e))
	}
	c.hub.end(c.ended())
}

func (c *Client) ended() error {
	if m, ok := c.monitor.(interface{ Err() error }); ok && m.Err() != nil {
		return fmt.Errorf("%w: %s: %w", ErrEnded, c.name, m.Err())
	}
	return fmt.Errorf("%w: %s: its events stopped", ErrEnded, c.name)
}

// Events subscribes to all events from now on. Close the subscription, or the
// Client, when done.
func (c *Client) Events() *Subscription { return c.hub.subscribe() }

// Done is closed when the monitor has ended: QEMU died, or Close was called.
func (c *Client) Done() <-chan struct{} { return c.hub.done }

// Err says why the monitor ended; nil as long as Done is open.
func (c *Client) Err() error { return c.hub.reason() }

// Close ends the monitor's connection, not QEMU. All pending verbs fail, all
// subscriptions end. It waits for what the Client had started, for seconds at
// most, and fails if the monitor did not let go. It may be called twice.
func (c *Client) Close() error {
	c.closing.Do(func() { c.closeErr = c.close() })
	return c.closeErr
}

func (c *Client) close() error {
	c.hub.end(fmt.Errorf("%w: %s", ErrClosed, c.name))
	c.cancel()
	var err error
	c.owned.Go(func() { err = c.monitor.Disconnect() })
	if stuck := c.reap(); stuck != nil {
		return stuck
	}
	if err != nil {
		return fmt.Errorf("close QMP monitor %s: %w", c.name, err)
	}
	return nil
}

func (c *Client) reap() error {
	reaped := make(chan struct{})
	go func() { c.owned.Wait(); close(reaped) }()
	limit := time.NewTimer(closeLimit)
	defer limit.Stop()
	select {
	case <-reaped:
		return nil
	case <-limit.C:
		return fmt.Errorf("QMP monitor %s does not let go", c.name)
	}
}

// command as it goes over the wire (docs/interop/qmp-spec).
type command struct {
	Execute   string `json:"execute,omitempty"`
	OutOfBand string `json:"exec-oob,omitempty"`
	Arguments any    `json:"arguments,omitempty"`
}

// Execute runs any command, with arguments that become a JSON object (nil for
// none), and reads what QEMU returned into result (nil to ignore it). It fails
// with a *CommandError around ErrNotSent, ErrOutcomeUnknown, ErrEnded,
// ErrClosed, a *RefusedError or the monitor's own error, and always by the end
// of the context.
func (c *Client) Execute(ctx context.Context, name string, arguments, result any) error {
	return c.wrap(name, c.execute(ctx, c.ordinary, command{Execute: name, Arguments: arguments}, result))
}

// executeUrgently goes past a command that hangs, where that was negotiated.
func (c *Client) executeUrgently(ctx context.Context, name string, arguments, result any) error {
	if c.urgent == nil {
		return c.Execute(ctx, name, arguments, result)
	}
	return c.wrap(name, c.execute(ctx, c.urgent, command{OutOfBand: name, Arguments: arguments}, result))
}

func (c *Client) wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return &CommandError{Command: name, Monitor: c.name, Err: err}
}

func (c *Client) execute(ctx context.Context, l *lane, cmd command, result any) error {
	line, err := json.Marshal(cmd)
	if err != nil {
		return fmt.Errorf("%w: encode arguments: %w", ErrNotSent, err)
	}
	began := time.Now()
	out, err := l.do(ctx, c.hub, cmd.Execute+cmd.OutOfBand, line)
	c.log.Trace("QMP command", "command", string(line), "took", time.Since(began), "error", err)
	if err != nil || result == nil {
		return err
	}
	reply := struct {
		Return any `json:"return"`
	}{result}
	if err := json.Unmarshal(out, &reply); err != nil {
		return fmt.Errorf("decode reply: %w", err)
	}
	return nil
}
