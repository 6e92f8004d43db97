package supervise

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/qmp"
)

const (
	// answerLimit is how long QEMU may take to answer before it hangs.
	answerLimit = time.Second
	// runLimit is how long a freed guest may take to run.
	runLimit = 5 * time.Second
	// pollInterval between two looks at a guest that is about to run.
	pollInterval = 5 * time.Millisecond
)

var errNoMonitor = errors.New("its monitor is not open")

// monitor keeps a QMP connection open. Its methods may be called concurrently.
type monitor struct {
	path string
	log  hclog.Logger

	mu     sync.Mutex
	client *qmp.Client // nil while it is not open
}

// keep the connection open until the context ends.
func (m *monitor) keep(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		c, err := qmp.DialOutOfBand(ctx, m.path, m.log)
		if err == nil {
			said = ""
			m.hold(ctx, c)
		} else if text := err.Error(); ctx.Err() == nil && text != said {
			said = text
			m.log.Error("the monitor does not open; trying on", "error", err)
		}
		sleep(ctx, retryPause)
	}
}

func (m *monitor) hold(ctx context.Context, c *qmp.Client) {
	m.set(c)
	select {
	case <-c.Done():
		m.log.Warn("the monitor was lost; opening it again", "error", c.Err())
	case <-ctx.Done():
	}
	m.set(nil)
	if err := c.Close(); err != nil {
		m.log.Warn("the monitor was not closed", "error", err)
	}
}

func (m *monitor) set(c *qmp.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.client = c
}

func (m *monitor) get() *qmp.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client
}

// yank breaks QEMU's migration connections, out of band.
func (m *monitor) yank(ctx context.Context) error {
	c := m.get()
	if c == nil {
		return errNoMonitor
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	all, err := c.QueryYank(ctx)
	if err != nil {
		return err
	}
	var migrations []qmp.YankInstance
	for _, y := range all {
		if y.Type == qmp.YankMigration().Type {
			migrations = append(migrations, y)
		}
	}
	if len(migrations) == 0 {
		return nil
	}
	return c.Yank(ctx, migrations...)
}

// view is the guest as QEMU tells it; the zero value if it does not.
type view struct {
	migration qmp.MigrationStatus
	status    string
}

// look at the guest, in band.
func (m *monitor) look(ctx context.Context) (view, error) {
	c := m.get()
	if c == nil {
		return view{}, errNoMonitor
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	migration, err := c.QueryMigrate(ctx)
	if err != nil {
		return view{}, err
	}
	status, err := c.QueryStatus(ctx)
	if err != nil {
		return view{}, err
	}
	return view{migration.Status, status.Status}, nil
}

func (v view) state() guestState {
	switch v.status {
	case "":
		return unknown
	case qmp.StateCOLO, qmp.StatePaused, qmp.StateFinishMigrate, qmp.StatePostMigrate:
		return stuck
	}
	if v.migration == qmp.MigrationCOLO {
		return stuck
	}
	return loose
}

// free makes a guest run that was last seen as v, and waits until it does.
// Where QEMU does not answer, its migration is yanked first.
func (m *monitor) free(ctx context.Context, v view) error {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	var err error
	if v.state() == unknown {
		if err = m.yank(ctx); err == nil {
			v, err = m.look(ctx)
		}
	}
	if err == nil {
		err = m.leave(ctx, v)
	}
	for err == nil && v.state() != loose {
		if !sleep(ctx, pollInterval) {
			err = ctx.Err()
		} else if v, err = m.look(ctx); err == nil {
			err = m.resume(ctx, v)
		}
	}
	if err != nil {
		return fmt.Errorf("free the guest (it is %q, its migration %q): %w", v.status, v.migration, err)
	}
	return nil
}

// leave COLO. From a first copy that nobody reads a yank is the way out: QEMU
// ends it by itself when its connection breaks.
func (m *monitor) leave(ctx context.Context, v view) error {
	if v.migration == qmp.MigrationCOLO {
		return m.inBand(ctx, (*qmp.Client).COLOLostHeartbeat)
	}
	if v.migrationEnded() {
		return nil
	}
	return m.yank(ctx)
}

// resume a guest that a finished migration has left stopped.
func (m *monitor) resume(ctx context.Context, v view) error {
	if v.migrationEnded() && (v.status == qmp.StatePaused || v.status == qmp.StatePostMigrate) {
		return m.inBand(ctx, (*qmp.Client).Cont)
	}
	return nil
}

func (v view) migrationEnded() bool {
	switch v.migration {
	case qmp.MigrationNone, qmp.MigrationCompleted, qmp.MigrationFailed, qmp.MigrationCancelled:
		return true
	}
	return false
}

func (m *monitor) inBand(ctx context.Context, verb func(*qmp.Client, context.Context) error) error {
	c := m.get()
	if c == nil {
		return errNoMonitor
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	return verb(c, ctx)
}

// sleep reports whether the context outlasted it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
