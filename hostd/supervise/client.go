package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// beatsPerSilence is how many beats a daemon sends in a silence.
	beatsPerSilence = 5
	// beatLimit is how long the supervisor may take to answer a beat before it
	// is given up.
	beatLimit = 15 * time.Second
	// endedBurst is how many notices may wait for the daemon.
	endedBurst = 256
)

// ErrClosed says that the Client was closed.
var ErrClosed = errors.New("the connection to the supervisor was closed")

// Client is the daemon's connection to its supervisor. It beats from Dial to
// Close. Its methods may be called concurrently.
type Client struct {
	wire     *wire
	greeting greeting
	ended    chan Ended
	done     chan struct{}
	owned    sync.WaitGroup

	mu      sync.Mutex
	nextID  uint64
	pending map[uint64]chan response // each holds one
	err     error                    // written before done is closed
}

// Dial connects to the supervisor's socket, replacing a connection before. The
// context bounds the connecting only. What the supervisor did in the daemon's
// absence has ended when Dial returns.
func Dial(ctx context.Context, socket string) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the supervisor: %w; is it running?", err)
	}
	c := &Client{wire: newWire(conn), ended: make(chan Ended, endedBurst), done: make(chan struct{}), pending: map[uint64]chan response{}}
	if err := c.hear(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to the supervisor at %s: %w", socket, err)
	}
	c.owned.Go(c.read)
	if _, err := c.call(ctx, request{Op: opBeat}); err != nil {
		c.Close()
		return nil, err
	}
	c.owned.Go(c.beat)
	return c, nil
}

// hear the greeting.
func (c *Client) hear(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.wire.conn.Close() })
	line, err := c.wire.next(0)
	if !stop() {
		return fmt.Errorf("no greeting: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("no greeting: %w", err)
	}
	var r response
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("no greeting: %w", err)
	}
	if r.Greeting == nil || r.Greeting.Version < 1 || r.Greeting.Silence <= 0 {
		return fmt.Errorf("no greeting of a supervisor: %.100q", line)
	}
	c.greeting = *r.Greeting
	return nil
}

// Version of the supervisor's protocol, and the supervisor's process.
func (c *Client) Version() int { return c.greeting.Version }
func (c *Client) Pid() int     { return c.greeting.Pid }

// Ended tells of each QEMU that ended. It is closed after Done. It must be
// read: a connection with more than 256 notices unread is given up.
func (c *Client) Ended() <-chan Ended { return c.ended }

// Done is closed when the connection has ended: the supervisor is gone, another
// connection has replaced this one, or Close or Leave was called.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the connection ended; nil while Done is open.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and waits for what the Client started. To the
// supervisor the daemon is lost then. It may be called twice.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	c.owned.Wait()
	return nil
}

// Watch makes the supervisor hold a machine: its QEMU's process and the path
// of a QMP socket that nobody else uses. It returns before that monitor is
// open; List tells. It may be repeated, and is when the generation has changed.
func (c *Client) Watch(ctx context.Context, w Watched) error {
	_, err := c.call(ctx, request{Op: opWatch, Machine: w.Machine, Pid: w.Pid, Monitor: w.Monitor, Started: w.Started, Generation: w.Generation})
	return err
}

// Forget makes the supervisor let go of a machine, whose QEMU lives on.
func (c *Client) Forget(ctx context.Context, machine string) error {
	_, err := c.call(ctx, request{Op: opForget, Machine: machine})
	return err
}

// Yank breaks the connections of the machine's migration, past a main loop of
// QEMU that hangs on them. In COLO the guest has to be freed after it.
func (c *Client) Yank(ctx context.Context, machine string) error {
	_, err := c.call(ctx, request{Op: opYank, Machine: machine})
	return err
}

// List gives the machines that are watched, by name.
func (c *Client) List(ctx context.Context) ([]Watched, error) {
	r, err := c.call(ctx, request{Op: opList})
	return r.Machines, err
}

// Leave says good-bye: the machines stay watched and the grace begins. The
// connection ends; Close is still to be called.
func (c *Client) Leave(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opLeave})
	return err
}

func (c *Client) call(ctx context.Context, r request) (response, error) {
	answer, err := c.ask(ctx, r)
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil {
		return answer, fmt.Errorf("supervisor, %s %s: %w", r.Op, r.Machine, err)
	}
	return answer, nil
}

func (c *Client) ask(ctx context.Context, r request) (response, error) {
	reply := make(chan response, 1)
	c.mu.Lock()
	c.nextID++
	r.ID = c.nextID
	c.pending[r.ID] = reply
	c.mu.Unlock()
	defer c.drop(r.ID)
	if err := ctx.Err(); err != nil {
		return response{}, err
	}
	if err := c.wire.send(r); err != nil {
		c.fail(err)
	}
	select {
	case a := <-reply:
		return a, nil
	case <-ctx.Done():
		return response{}, ctx.Err()
	case <-c.done:
	}
	select {
	case a := <-reply: // it came before the end
		return a, nil
	default:
		return response{}, c.Err()
	}
}

func (c *Client) drop(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// fail ends the connection; the first reason stands.
func (c *Client) fail(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = why
	close(c.done)
	c.wire.conn.Close()
}

func (c *Client) read() {
	defer close(c.ended)
	for {
		line, err := c.wire.next(0)
		if err == nil {
			err = c.handle(line)
		}
		if err != nil {
			c.fail(fmt.Errorf("the supervisor is gone or serves another daemon: %w", err))
			return
		}
	}
}

func (c *Client) handle(line []byte) error {
	var r response
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("it said what is no answer: %w", err)
	}
	if r.Ended != nil {
		select {
		case c.ended <- *r.Ended:
			return nil
		default:
			return errors.New("its notices are not read")
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if reply := c.pending[r.ID]; reply != nil {
		delete(c.pending, r.ID)
		reply <- r
	}
	return nil
}

// beat until the connection ends.
func (c *Client) beat() {
	tick := time.NewTicker(max(time.Millisecond, time.Duration(c.greeting.Silence)*time.Millisecond/beatsPerSilence))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.done:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), beatLimit)
		_, err := c.call(ctx, request{Op: opBeat})
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			c.fail(fmt.Errorf("the supervisor hangs: no answer for %s", beatLimit))
		}
	}
}
