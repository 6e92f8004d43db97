package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/proto/colo"
	"github.com/stillpoint-ft/stillpoint/qmp"
)

// Seed reads the first full copy while the guest runs, and brings QEMU into
// COLO. The guest stops for the last of it: beforeStop is called once, when QEMU
// has passed over all memory and begins to send what was dirtied meanwhile, and
// Seed returns when the guest runs again. What was read while it was stopped goes
// to the Seeder only then: the guest never waits for it. The device state of that
// copy is of no use: the first checkpoint follows at once.
func (c *Capture) Seed(ctx context.Context, to Seeder, beforeStop func()) error {
	var helpers sync.WaitGroup
	defer helpers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	helpers.Go(func() { c.noteStop(ctx) })
	again := sync.OnceFunc(func() {
		beforeStop() // nothing is read meanwhile, so QEMU gets no further
		helpers.Go(func() { c.allowStop(ctx) })
	})
	s := &seeding{to: to, capture: c, batch: newBatch(), again: again}
	err := c.firstCopy(ctx, s)
	stop() // before the context ends: the connection stays
	return err
}

// firstCopy reads everything up to QEMU's entry into COLO, and lets the guest run.
func (c *Capture) firstCopy(ctx context.Context, s *seeding) error {
	header, err := c.reader.Header()
	if err != nil {
		return fmt.Errorf("read QEMU's migration stream: %w", err)
	}
	c.machine = header.Machine
	if err := c.reader.Initial(s); err != nil {
		return fmt.Errorf("read the first copy from QEMU: %w", err)
	}
	c.gauge.stopped.Store(true) // devices are saved with the guest stopped
	if err := c.enterCOLO(ctx); err != nil {
		return err
	}
	if err := c.runOn(ctx); err != nil {
		return err
	}
	return s.finish()
}

// noteStop notes when QEMU stops the guest for the end of the first copy.
func (c *Capture) noteStop(ctx context.Context) {
	events := c.o.Monitor.Events()
	defer events.Close()
	for {
		select {
		case e, ok := <-events.C():
			if !ok {
				return
			}
			if e.Name == "STOP" {
				c.gauge.stopped.Store(true)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// allowStop lets the first copy converge. QEMU may answer only when more of
// the copy has been read.
func (c *Capture) allowStop(ctx context.Context) {
	const allowed = 2 * time.Second
	err := c.o.Monitor.SetParameters(ctx, qmp.MigrationParameters{DowntimeLimit: qmp.Millis(allowed)})
	if err != nil && ctx.Err() == nil {
		c.o.Log.Warn("the end of the first copy may take long", "error", err)
	}
}

// runOn tells a QEMU in COLO that its secondary is ready, and waits until the guest
// runs again.
func (c *Capture) runOn(ctx context.Context) error {
	c.events.Drain()
	c.reader.Reset(c.gauge.reader(c.conn))
	if err := c.send(colo.CheckpointReady); err != nil {
		return err
	}
	_, _, err := c.awaitResume(ctx)
	if err == nil {
		c.gauge.stopped.Store(false)
	}
	return err
}

// enterCOLO drops the rest of the ordinary migration, which cannot be parsed,
// until QEMU says that it is in COLO. All the while the stream is read: QEMU's
// migration thread writes it with the big lock held, and as long as it waits for
// room in the socket QEMU answers nothing. QEMU writes nothing between entering
// COLO and our first message, so all that is readable once it says "colo" is that
// rest.
func (c *Capture) enterCOLO(ctx context.Context) error {
	if c.returnPath {
		if _, err := c.conn.Write(colo.AppendReturnPathEnd(nil)); err != nil {
			return fmt.Errorf("end QEMU's return path: %w", err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopReading := c.discard(cancel)
	err := c.awaitCOLO(ctx)
	if broken := stopReading(); broken != nil {
		err = broken // the reason why the monitor was not waited for
	}
	if err == nil {
		err = c.conn.Discard()
	}
	if err != nil {
		return fmt.Errorf("read the end of the first copy: %w", err)
	}
	return nil
}

// discard reads and forgets what QEMU sends until it is told to stop. If the
// connection breaks first, broken is called, and stop tells the reason.
func (c *Capture) discard(broken context.CancelCauseFunc) (stop func() error) {
	ended := make(chan error, 1)
	from := c.gauge.reader(c.conn)
	go func() {
		b := make([]byte, 1<<16)
		for {
			_, err := from.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil
			} else if err == nil {
				continue
			} else {
				if errors.Is(err, io.EOF) {
					err = errHungUp
				}
				broken(err)
			}
			ended <- err
			return
		}
	}()
	return func() error {
		c.conn.SetReadDeadline(time.Now())
		err := <-ended
		c.conn.SetReadDeadline(time.Time{})
		return err
	}
}

func (c *Capture) awaitCOLO(ctx context.Context) error {
	defer c.gauge.waitFor()()
	for {
		info, err := c.o.Monitor.QueryMigrate(ctx)
		if err != nil {
			return err
		}
		switch info.Status {
		case qmp.MigrationCOLO:
			return nil
		case qmp.MigrationFailed, qmp.MigrationCancelled, qmp.MigrationCompleted:
			return fmt.Errorf("QEMU's migration is %q instead of \"colo\" (%s); "+
				"QEMU 10.0.13 and 11.1.3 are known to be right, 10.0.0 to 10.0.2 and 10.1 are not", info.Status, info.ErrorDesc)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for QEMU to enter COLO: %w", err)
		}
	}
}
