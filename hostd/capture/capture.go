// Package capture takes epochs out of a running QEMU. It plays the secondary's
// side of QEMU's COLO protocol (migration/colo.c) on a local unix socket, so
// that QEMU does the dirty tracking and the caller decides every step.
package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// Monitor is what a capture needs of QEMU's monitor.
type Monitor interface {
	SetCapabilities(ctx context.Context, capabilities map[string]bool) error
	SetParameters(ctx context.Context, p qmp.MigrationParameters) error
	Migrate(ctx context.Context, uri string) error
	QueryMigrate(ctx context.Context) (qmp.MigrationInfo, error)
	QueryStatus(ctx context.Context) (qmp.StatusInfo, error)
	COLOLostHeartbeat(ctx context.Context) error
	MigrateCancel(ctx context.Context) error
	Cont(ctx context.Context) error
	Events() *qmp.Subscription
}

// Options of a Capture.
type Options struct {
	Monitor Monitor
	// Listen is where QEMU will connect to.
	Listen func() (Listener, error)
	// Delay after which QEMU asks for the next checkpoint by itself.
	Delay  time.Duration
	Limits colo.Limits
	// EpochLimit is the most bytes of memory that are held of one epoch; 0 for the
	// guest's memory and an eighth.
	EpochLimit uint64
	// Patience is how long QEMU may send nothing in the middle of a checkpoint,
	// while the guest is stopped; zero for DefaultPatience.
	Patience time.Duration
	// RAMFile is the file that the guest's main memory, the block RAMBlock, lies
	// in. It is needed where QEMU's dirty tracking has gaps (TCG); empty elsewhere.
	RAMFile, RAMBlock string
	// Gauge tells others how the capture gets on; nil for nobody.
	Gauge *Gauge
	Log   hclog.Logger
}

// DefaultPatience covers a disk that is slow to drain.
const DefaultPatience = 30 * time.Second

// Capture is one protection's connection to QEMU. Its methods are called by
// one goroutine, in the order Seed, then for each checkpoint AwaitRequest,
// Stop, Copy, Resume; Close and Leave may be called by another.
type Capture struct {
	o       Options
	conn    Conn
	reader  *colo.Reader
	events  *qmp.Subscription
	machine string
	blocks  []colo.Block
	recopy  recopy
	gauge   *Gauge

	returnPath bool   // QEMU wants a return path, and to be told that it has ended
	deviceSize uint64 // bytes of device state that come next
}

// Start makes QEMU migrate to the capture's socket with COLO.
func Start(ctx context.Context, o Options) (*Capture, error) {
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.Gauge == nil {
		o.Gauge = new(Gauge)
	}
	c := &Capture{o: o, events: o.Monitor.Events(), gauge: o.Gauge, recopy: recopy{file: o.RAMFile, block: o.RAMBlock}}
	if err := c.connect(ctx); err != nil {
		c.events.Close()
		return nil, fmt.Errorf("start capturing: %w; the guest runs on, unprotected", err)
	}
	c.reader = colo.NewReader(c.gauge.reader(c.conn), o.Limits)
	return c, nil
}

func (c *Capture) connect(ctx context.Context) error {
	listener, err := c.o.Listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	defer c.gauge.waitFor()()
	if err := c.migrate(ctx, listener.URI()); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	c.conn, err = listener.Accept()
	if err != nil {
		return fmt.Errorf("wait for QEMU on %s: %w", listener.URI(), errors.Join(err, ctx.Err()))
	}
	return nil
}

func (c *Capture) migrate(ctx context.Context, uri string) error {
	m := c.o.Monitor
	if err := c.setCapabilities(ctx); err != nil {
		return err
	}
	const unlimited = 100 << 30 // bytes per second: the daemon paces the stream
	if err := m.SetParameters(ctx, qmp.MigrationParameters{
		CheckpointDelay: qmp.Millis(c.o.Delay), MaxBandwidth: qmp.Bytes(unlimited),
		// Little may be left when QEMU stops the guest by itself.
		DowntimeLimit: qmp.Millis(time.Millisecond),
	}); err != nil {
		return err
	}
	return m.Migrate(ctx, uri)
}

// setCapabilities asks for COLO without a return path, which QEMU 10 needs, and
// where that is refused with one, which QEMU 11 needs. The return path is named
// either way: capabilities stay from the protection before.
func (c *Capture) setCapabilities(ctx context.Context) error {
	wanted := map[string]bool{"x-colo": true, "events": true, "x-ignore-shared": false, "return-path": false}
	err := c.o.Monitor.SetCapabilities(ctx, wanted)
	var refused *qmp.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	wanted["return-path"] = true
	if again := c.o.Monitor.SetCapabilities(ctx, wanted); again != nil {
		return fmt.Errorf("switch COLO on, without a return path: %w; and with one: %w", err, again)
	}
	c.returnPath = true
	return nil
}

// Close ends the connection with QEMU. A guest that is stopped in a checkpoint
// stays stopped until Leave.
func (c *Capture) Close() {
	c.conn.Close()
	c.events.Close()
}

// Leave closes the connection and makes QEMU run on alone, whether it has
// entered COLO or is still copying.
func (c *Capture) Leave(ctx context.Context) error {
	c.Close()
	return Free(ctx, c.o.Monitor)
}

func pause(ctx context.Context) error {
	t := time.NewTimer(time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Machine is QEMU's name of the machine type, as its stream told it, and
// Section the identity of its RAM section; both known after Seed.
func (c *Capture) Machine() string { return c.machine }

// Blocks of RAM; known after Seed.
func (c *Capture) Blocks() []colo.Block { return c.blocks }

func (c *Capture) send(messages ...colo.Message) error {
	var b []byte
	for _, m := range messages {
		b = colo.AppendMessage(b, m)
	}
	if _, err := c.conn.Write(b); err != nil {
		return fmt.Errorf("send %v to QEMU: %w", messages, err)
	}
	return nil
}

// AwaitRequest returns when QEMU stands by for a checkpoint; the guest runs.
func (c *Capture) AwaitRequest() error {
	return c.reader.Expect(colo.CheckpointRequest)
}

// Stop lets the checkpoint begin and returns when the guest is stopped and its
// devices are drained: what is readable on its taps now belongs to the epoch.
func (c *Capture) Stop(e *Epoch, number uint64) error {
	e.Reset(number, c.limit())
	c.events.Drain()
	e.Times.Reply = time.Now()
	if err := c.send(colo.CheckpointReply); err != nil {
		return err
	}
	c.conn.SetReadDeadline(time.Now().Add(c.o.Patience))
	if err := c.reader.Expect(colo.VMStateSend); err != nil {
		return err
	}
	e.Times.Stopped = time.Now()
	return nil
}

// Copy reads the dirty pages into the epoch. When it returns QEMU has copied the
// device state, too, and only has to hand it over: see CopyDevices.
func (c *Capture) Copy(e *Epoch) error {
	c.conn.SetReadDeadline(time.Now().Add(c.o.Patience))
	defer c.conn.SetReadDeadline(time.Time{})
	if err := c.reader.Live(e); err != nil {
		return fmt.Errorf("copy dirty pages of epoch %d: %w", e.Number, err)
	}
	if err := c.recopy.into(e); err != nil {
		return fmt.Errorf("copy dirty pages of epoch %d: %w", e.Number, err)
	}
	var err error
	if c.deviceSize, err = c.reader.DeviceSize(); err != nil {
		return fmt.Errorf("copy device state of epoch %d: %w", e.Number, err)
	}
	return nil
}

// LetGo lets the guest run, once QEMU has handed over the device state: it finds
// our answer there and need not wait until all has been read.
func (c *Capture) LetGo() error { return c.send(colo.VMStateReceived, colo.VMStateLoaded) }

// CopyDevices reads the device state into the epoch, after Copy.
func (c *Capture) CopyDevices(e *Epoch) (err error) {
	c.conn.SetReadDeadline(time.Now().Add(c.o.Patience))
	defer c.conn.SetReadDeadline(time.Time{})
	if e.Device, err = c.reader.Device(e.Device, c.deviceSize); err != nil {
		return fmt.Errorf("copy device state of epoch %d: %w", e.Number, err)
	}
	e.Times.Copied = time.Now()
	return nil
}

// AwaitResume returns when QEMU says that the guest runs, after LetGo.
func (c *Capture) AwaitResume(ctx context.Context, e *Epoch) (err error) {
	e.Times.Resumed, e.Times.Pause, err = c.awaitResume(ctx)
	return err
}

// awaitResume returns when QEMU says that the guest runs, and the length of the
// pause by QEMU's own clock, if it told.
func (c *Capture) awaitResume(ctx context.Context) (at time.Time, length time.Duration, err error) {
	var stopped time.Time
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if c.conn.HungUp() {
				return at, 0, fmt.Errorf("wait for the guest to resume: %w", errHungUp)
			}
		case ev, ok := <-c.events.C():
			switch {
			case !ok:
				return at, 0, fmt.Errorf("wait for the guest to resume: %w", errors.Join(errMonitorEnded, c.events.Err()))
			case ev.Name == "STOP":
				stopped = ev.QEMUTime
			case ev.Name == "RESUME" && stopped.IsZero():
				return ev.Received, 0, nil
			case ev.Name == "RESUME":
				return ev.Received, ev.QEMUTime.Sub(stopped), nil
			}
		case <-ctx.Done():
			return at, 0, fmt.Errorf("wait for the guest to resume: %w", ctx.Err())
		}
	}
}

// lookInterval is how often a resume that takes long looks at the socket: QEMU
// tells of no failure there by an event.
const lookInterval = 50 * time.Millisecond

// limit of an epoch. Its pages are those of the guest's memory, each once as a rule:
// so by default the memory and an eighth may be held.
func (c *Capture) limit() Limit {
	var bytes uint64
	for _, b := range c.blocks {
		bytes += b.Size
	}
	most := c.o.EpochLimit
	if most == 0 {
		most = bytes + bytes/8
	}
	return Limit{Most: most / pageSize, Never: 2 * bytes / pageSize}
}

var (
	errMonitorEnded = errors.New("the monitor ended")
	errHungUp       = errors.New("QEMU closed the connection")
)
