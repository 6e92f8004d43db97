// Package capture takes epochs out of a running QEMU. It plays the secondary's
// side of QEMU's COLO protocol (migration/colo.c) on a local unix socket, so
// that QEMU does the dirty tracking and the caller decides every step.
package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

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
	Events() *qmp.Subscription
}

// Options of a Capture.
type Options struct {
	Monitor Monitor
	// Socket is where QEMU will connect to; it is made and removed here.
	Socket string
	// Delay after which QEMU asks for the next checkpoint by itself.
	Delay  time.Duration
	Limits colo.Limits
	Log    hclog.Logger
}

// Capture is one protection's connection to QEMU. Its methods are called by
// one goroutine, in the order Seed, then for each checkpoint AwaitRequest,
// Stop, Copy, Resume; Close and Leave may be called by another.
type Capture struct {
	o       Options
	conn    *net.UnixConn
	reader  *colo.Reader
	events  *qmp.Subscription
	machine string
	blocks  []colo.Block
}

// Start makes QEMU migrate to the capture's socket with COLO.
func Start(ctx context.Context, o Options) (*Capture, error) {
	c := &Capture{o: o, events: o.Monitor.Events()}
	if err := c.connect(ctx); err != nil {
		c.events.Close()
		return nil, fmt.Errorf("start capturing: %w; the guest runs on, unprotected", err)
	}
	c.reader = colo.NewReader(c.conn, o.Limits)
	return c, nil
}

func (c *Capture) connect(ctx context.Context) error {
	os.Remove(c.o.Socket)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.o.Socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := c.migrate(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { listener.SetDeadline(time.Now()) })
	defer stop()
	c.conn, err = listener.AcceptUnix()
	if err != nil {
		return fmt.Errorf("wait for QEMU on %s: %w", c.o.Socket, errors.Join(err, ctx.Err()))
	}
	return nil
}

func (c *Capture) migrate(ctx context.Context) error {
	m := c.o.Monitor
	if err := m.SetCapabilities(ctx, map[string]bool{"x-colo": true, "events": true, "x-ignore-shared": false}); err != nil {
		return err
	}
	const unlimited = 100 << 30 // bytes per second: the daemon paces the stream
	if err := m.SetParameters(ctx, qmp.MigrationParameters{
		CheckpointDelay: qmp.Millis(c.o.Delay), MaxBandwidth: qmp.Bytes(unlimited), DowntimeLimit: qmp.Millis(2 * time.Second),
	}); err != nil {
		return err
	}
	return m.Migrate(ctx, "unix:"+c.o.Socket)
}

// Close ends the connection with QEMU. A guest that is stopped in a checkpoint
// stays stopped until Leave.
func (c *Capture) Close() {
	c.conn.Close()
	c.events.Close()
}

// Leave closes the connection and makes QEMU run on alone.
func (c *Capture) Leave(ctx context.Context) error {
	c.Close()
	if err := c.o.Monitor.COLOLostHeartbeat(ctx); err != nil {
		return fmt.Errorf("free the guest from COLO: %w; it may be stopped", err)
	}
	return c.awaitStatus(ctx, "running")
}

func (c *Capture) awaitStatus(ctx context.Context, want string) error {
	for {
		s, err := c.o.Monitor.QueryStatus(ctx)
		if err != nil {
			return err
		}
		if s.Status == want {
			return nil
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
// COLO. The device state of that copy is of no use: the first checkpoint
// follows at once.
func (c *Capture) Seed(ctx context.Context, to Seeder) error {
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	header, err := c.reader.Header()
	if err != nil {
		return fmt.Errorf("read QEMU's migration stream: %w", err)
	}
	c.machine = header.Machine
	s := &seeding{to: to, capture: c, batch: newBatch()}
	if err := c.reader.Initial(s); err != nil {
		return fmt.Errorf("read the first copy from QEMU: %w", err)
	}
	if err := s.flush(); err != nil {
		return err
	}
	if err := c.discardUntilCOLO(ctx); err != nil {
		return err
	}
	c.reader.Reset(c.conn)
	return c.send(colo.CheckpointReady)
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
		if err := c.discardReadable(); err != nil {
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

func (c *Capture) discardReadable() error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, 1<<16)
	var result error
	err = raw.Control(func(fd uintptr) {
		for {
			n, err := unix.Read(int(fd), b)
			if err == unix.EAGAIN {
				return
			}
			if err == nil && n == 0 {
				err = errors.New("QEMU closed the connection")
			}
			if err != nil && err != unix.EINTR {
				result = err
				return
			}
		}
	})
	return errors.Join(err, result)
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
	e.reset(number)
	c.events.Drain()
	e.Times.Reply = time.Now()
	if err := c.send(colo.CheckpointReply); err != nil {
		return err
	}
	if err := c.reader.Expect(colo.VMStateSend); err != nil {
		return err
	}
	e.Times.Stopped = time.Now()
	return nil
}

// Copy reads the dirty pages and the device state into the epoch.
func (c *Capture) Copy(e *Epoch) error {
	if err := c.reader.Live(e); err != nil {
		return fmt.Errorf("copy dirty pages of epoch %d: %w", e.Number, err)
	}
	var err error
	if e.Device, err = c.reader.DeviceState(e.Device); err != nil {
		return fmt.Errorf("copy device state of epoch %d: %w", e.Number, err)
	}
	e.Times.Copied = time.Now()
	return nil
}

// Resume lets the guest run and returns when QEMU says that it does.
func (c *Capture) Resume(ctx context.Context, e *Epoch) error {
	if err := c.send(colo.VMStateReceived, colo.VMStateLoaded); err != nil {
		return err
	}
	e.Times.Loaded = time.Now()
	var stopped time.Time
	for {
		select {
		case ev, ok := <-c.events.C():
			if !ok {
				return fmt.Errorf("wait for the guest to resume: the monitor ended")
			}
			switch ev.Name {
			case "STOP":
				stopped = ev.QEMUTime
			case "RESUME":
				e.Times.Resumed = ev.Received
				if !stopped.IsZero() {
					e.Times.Pause = ev.QEMUTime.Sub(stopped)
				}
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("wait for the guest to resume: %w", ctx.Err())
		}
	}
}
