package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/qmp"
)

// settles is how long a guest that runs waits for QEMU to call its migration ended.
const settles = 500 * time.Millisecond

// endsByItself is how long a first copy whose connection is closed may take to
// notice that, before it is cancelled. A copy that enters COLO at that very moment
// must not be: a cancelled COLO never ends.
const endsByItself = 300 * time.Millisecond

// ErrNeverRan says that QEMU waits for a guest, and nobody is bringing one.
var ErrNeverRan = errors.New("its QEMU waits for a guest that was never brought to it")

// Free brings a guest back to running that was left in COLO or in its first
// copy, and returns when it runs and QEMU takes another migration, as far as that can
// be awaited. The other end of QEMU's connection must be closed.
func Free(ctx context.Context, m Monitor) error {
	f := freeing{m: m, began: time.Now()}
	for {
		free, err := f.look(ctx)
		if free || err != nil {
			return err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait until the guest runs (it is %s, its migration %s): %w", f.guest, f.migration, err)
		}
	}
}

type freeing struct {
	m         Monitor
	began     time.Time
	told      time.Time // to leave COLO, or to cancel the copy
	migration qmp.MigrationStatus
	guest     string
}

// look asks where QEMU is and pushes it on. It says when the guest is free.
func (f *freeing) look(ctx context.Context) (free bool, err error) {
	info, err := f.m.QueryMigrate(ctx)
	if err != nil {
		return false, fmt.Errorf("free the guest from COLO: %w; it may be stopped", err)
	}
	s, err := f.m.QueryStatus(ctx)
	if err != nil {
		return false, fmt.Errorf("free the guest from COLO: %w; it may be stopped", err)
	}
	f.migration, f.guest = info.Status, s.Status
	if f.guest == qmp.StateInMigrate && (f.migration == qmp.MigrationNone || f.migration == qmp.MigrationSetup) {
		if time.Since(f.began) > settles {
			return false, ErrNeverRan
		}
		return false, nil // what was sent before may still be arriving
	}
	under, err := f.leave(ctx)
	if err != nil {
		return false, err
	}
	if s.Status == qmp.StateRunning || stoppedItself(s.Status) {
		return !under || !f.told.IsZero() && time.Since(f.told) > settles, nil
	}
	if under {
		return false, nil
	}
	if s.Status == qmp.StatePostMigrate || s.Status == qmp.StatePaused { // the copy ended with the guest stopped
		if err := f.m.Cont(ctx); err != nil {
			return false, fmt.Errorf("let the guest run on: %w", err)
		}
	}
	return false, nil
}

// stoppedItself tells a guest that is as it would be without COLO: it sleeps, or has hit
// an error. Nothing here makes it run, and nothing here has to.
func stoppedItself(status string) bool {
	switch status {
	case qmp.StateSuspended, qmp.StatePanicked, qmp.StateInternalError, qmp.StateIOError, qmp.StateWatchdog, qmp.StateShutdown:
		return true
	}
	return false
}

// leave ends a migration that is under way, and says whether one is.
func (f *freeing) leave(ctx context.Context) (under bool, err error) {
	switch f.migration {
	case qmp.MigrationCOLO:
		if f.told.IsZero() {
			if err := f.m.COLOLostHeartbeat(ctx); err != nil {
				return true, fmt.Errorf("free the guest from COLO: %w; it may be stopped", err)
			}
			f.told = time.Now()
		}
	case qmp.MigrationSetup, qmp.MigrationActive, qmp.MigrationDevice, qmp.MigrationPreSwitch, qmp.MigrationWaitUnplug:
		if f.told.IsZero() && time.Since(f.began) > endsByItself {
			if err := f.m.MigrateCancel(ctx); err != nil {
				return true, fmt.Errorf("end the first copy: %w; the guest may be stopped", err)
			}
			f.told = time.Now()
		}
	case qmp.MigrationFailing, qmp.MigrationCancelling:
	default:
		return false, nil
	}
	return true, nil
}
