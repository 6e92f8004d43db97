// Package capture takes epochs out of a running QEMU. It plays the secondary's
// side of QEMU's COLO protocol (migration/colo.c) on a local unix socket, so
// that QEMU does the dirty tracking and the caller decides every step.
package capture

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	// Patience is how long QEMU may send nothing in the middle of a checkpoint,
	// while the guest is stopped; zero for DefaultPatience.
	Patience time.Duration
	// RAMFile is the file that the guest's main memory, the block RAMBlock, lies
	// in. It is needed where QEMU's dirty tracking has gaps (TCG); empty elsewhere.
	RAMFile, RAMBlock string
	Log               hclog.Logger
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

	deviceSize uint64 // bytes of device state that come next
}

// Start makes QEMU migrate to the capture's socket with COLO.
func Start(ctx context.Context, o Options) (*Capture, error) {
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	c := &Capture{o: o, events: o.Monitor.Events(), recopy: recopy{file: o.RAMFile, block: o.RAMBlock}}
	if err := c.connect(ctx); err != nil {
		c.events.Close()
		return nil, fmt.Errorf("start capturing: %w; the guest runs on, unprotected", err)
	}
	c.reader = colo.NewReader(c.conn, o.Limits)
	return c, nil
}

func (c *Capture) connect(ctx context.Context) error {
	listener, err := c.o.Listen()
	if err != nil {
		return err
	}
	defer listener.Close()
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
	if err := m.SetCapabilities(ctx, map[string]bool{"x-colo": true, "events": true, "x-ignore-shared": false}); err != nil {
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

// Free brings a guest back to running that was left in COLO or in its first
// copy. The other end of QEMU's connection must be closed.
func Free(ctx context.Context, m Monitor) error {
	info, err := m.QueryMigrate(ctx)
	if err != nil {
		return fmt.Errorf("free the guest from COLO: %w; it may be stopped", err)
	}
	switch info.Status {
	case qmp.MigrationCOLO:
		if err := m.COLOLostHeartbeat(ctx); err != nil {
			return fmt.Errorf("free the guest from COLO: %w; it may be stopped", err)
		}
	case qmp.MigrationSetup, qmp.MigrationActive, qmp.MigrationDevice, qmp.MigrationPreSwitch:
		if err := m.MigrateCancel(ctx); err != nil {
			return fmt.Errorf("end the first copy: %w; the guest may be stopped", err)
		}
	}
	return awaitStatus(ctx, m, qmp.StateRunning)
}

func awaitStatus(ctx context.Context, m Monitor, want string) error {
	for {
		s, err := m.QueryStatus(ctx)
		if err != nil {
			return err
		}
		if s.Status == want {
			return nil
		}
		if s.Status == qmp.StatePostMigrate || s.Status == qmp.StatePaused { // the copy ended with the guest stopped
			if err := m.Cont(ctx); err != nil {
				return fmt.Errorf("let the guest run on: %w", err)
			}
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait until the guest is %s (it is %s): %w", want, s.Status, err)
		}
	}
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

// Seed reads the first full copy while the guest runs, and brings QEMU into
// COLO. The guest stops for the last of it: beforeStop is called once, when QEMU
// has passed over all memory and begins to send what was dirtied meanwhile, and
// Seed returns when the guest runs again. The device state of that copy is of
// no use: the first checkpoint follows at once.
func (c *Capture) Seed(ctx context.Context, to Seeder, beforeStop func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	var allowed sync.WaitGroup
	defer allowed.Wait()
	again := sync.OnceFunc(func() {
		beforeStop() // nothing is read meanwhile, so QEMU gets no further
		allowed.Add(1)
		go func() {
			defer allowed.Done()
			c.allowStop(ctx)
		}()
	})
	err := c.firstCopy(ctx, to, again)
	if err == nil {
		c.events.Drain()
		c.reader.Reset(c.conn)
		err = c.send(colo.CheckpointReady)
	}
	if err == nil {
		_, _, err = c.awaitResume(ctx)
	}
	stop() // before the context ends: the connection stays
	return err
}

// allowStop lets the first copy converge. QEMU may answer only when more of
// the copy has been read.
func (c *Capture) allowStop(ctx context.Context) {
	const allowed = 2 * time.Second
	if err := c.o.Monitor.SetParameters(ctx, qmp.MigrationParameters{DowntimeLimit: qmp.Millis(allowed)}); err != nil {
		c.o.Log.Warn("the end of the first copy may take long", "error", err)
	}
}

// firstCopy reads everything up to QEMU's entry into COLO.
func (c *Capture) firstCopy(ctx context.Context, to Seeder, again func()) error {
	header, err := c.reader.Header()
	if err != nil {
		return fmt.Errorf("read QEMU's migration stream: %w", err)
	}
	c.machine = header.Machine
	s := &seeding{to: to, capture: c, batch: newBatch(), again: again}
	if err := c.reader.Initial(s); err != nil {
		return fmt.Errorf("read the first copy from QEMU: %w", err)
	}
	if err := s.flush(); err != nil {
		return err
	}
	return c.discardUntilCOLO(ctx)
}

// discardUntilCOLO drops the rest of the ordinary migration, which cannot be
// parsed. QEMU writes nothing between entering COLO and our first message, so
// all that is readable once it says "colo" is that rest.
func (c *Capture) discardUntilCOLO(ctx context.Context) error {
	for {
		info, err := c.o.Monitor.QueryMigrate(ctx)
		if err != nil {
			return err
		}
		if err := c.conn.Discard(); err != nil {
			return fmt.Errorf("read the end of the first copy: %w", err)
		}
		switch info.Status {
		case qmp.MigrationCOLO:
			return nil
		case qmp.MigrationFailed, qmp.MigrationCancelled, qmp.MigrationCompleted:
			return fmt.Errorf("QEMU's migration is %q instead of \"colo\" (%s); "+
				"QEMU 10.0.13 is known to be right, 10.0.0 to 10.0.2 and 10.1 are not", info.Status, info.ErrorDesc)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for QEMU to enter COLO: %w", err)
		}
	}
}

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
	e.Reset(number, c.mostPages())
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
				return at, 0, errors.New("wait for the guest to resume: QEMU closed the connection")
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

// mostPages bounds an epoch: QEMU may send a page more than once in a
// checkpoint, but not all of them.
func (c *Capture) mostPages() uint64 {
	var bytes uint64
	for _, b := range c.blocks {
		bytes += b.Size
	}
	return 2 * bytes / pageSize
}

var errMonitorEnded = errors.New("the monitor ended")
