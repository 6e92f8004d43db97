package supervise

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// retryPause is between two tries of what failed, lookPause between two
	// looks at a machine for which nothing is to be done.
	retryPause = 100 * time.Millisecond
	lookPause  = time.Second
	// arbiterLimit is how long one question to the arbiter may take.
	arbiterLimit = 10 * time.Second
)

// Arbiter decides which host speaks for a machine. Its methods must end with
// their context.
type Arbiter interface {
	// Current is the record that stands; its Generation is 0 if there is none.
	Current(ctx context.Context, machine string) (Record, error)
	// ClaimSolo makes this host the machine's voice, without a standby, if the
	// generation is expect. It returns the record that stands and whether it
	// is this claim's; an error means that the outcome is not known.
	ClaimSolo(ctx context.Context, machine string, expect uint64) (stands Record, won bool, err error)
}

// machine is a QEMU that is watched.
type machine struct {
	name    string
	host    string
	arbiter Arbiter
	log     hclog.Logger
	process *process
	monitor *monitor
	// stop ends the watch; QEMU lives on.
	stop context.CancelFunc
	// ended is closed when QEMU has ended.
	ended chan struct{}
	// known is the last generation that is known to have stood.
	known atomic.Uint64
	// said is the failure that was logged last; only rescue uses it.
	said string
}

// rescue does what is to be done without a daemon, from after the grace until
// the context or QEMU ends.
func (m *machine) rescue(ctx context.Context, grace time.Duration) {
	for pause := grace; m.sleep(ctx, pause); {
		done, err := m.step(ctx)
		m.note(ctx, err)
		if pause = lookPause; err != nil || done == claim {
			pause = retryPause
		}
	}
}

// sleep reports whether neither the context nor QEMU has ended.
func (m *machine) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-m.ended:
	case <-ctx.Done():
	}
	return false
}

// step looks once and acts once.
func (m *machine) step(ctx context.Context) (action, error) {
	guest, silent := m.monitor.look(ctx)
	record, err := m.current(ctx) // asked last: it must be fresh
	if err != nil {
		return wait, err
	}
	if known := m.known.Load(); record.Generation < known {
		return wait, fmt.Errorf("the arbiter has lost what it granted for machine %s: it says generation %d, and granted %d before; "+
			"the guest stays as it is until it has its records again", m.name, record.Generation, known)
	}
	m.knows(record.Generation)
	a := decide(record, m.host, guest.state())
	if ctx.Err() != nil {
		return wait, ctx.Err() // the daemon came back meanwhile
	}
	switch a {
	case kill:
		m.log.Warn("this host has not the voice: QEMU is killed", "voice", record.Voice, "generation", record.Generation)
		return a, m.process.kill()
	case claim:
		if won, err := m.claim(ctx, record); err != nil || !won {
			return a, err
		}
	case wait:
		return a, nil
	}
	if err := m.monitor.free(ctx, guest); err != nil {
		return free, fmt.Errorf("machine %s: %w", m.name, errors.Join(err, silent))
	}
	m.log.Warn("the guest is out of COLO: it runs, unprotected and silent")
	return free, nil
}

// knows notes a generation that stood at the arbiter.
func (m *machine) knows(generation uint64) {
	for known := m.known.Load(); generation > known && !m.known.CompareAndSwap(known, generation); known = m.known.Load() {
	}
}

func (m *machine) current(ctx context.Context) (Record, error) {
	ctx, cancel := context.WithTimeout(ctx, arbiterLimit)
	defer cancel()
	r, err := m.arbiter.Current(ctx, m.name)
	if err != nil {
		return r, fmt.Errorf("ask the arbiter who speaks for machine %s: %w; the guest stays as it is until it answers", m.name, err)
	}
	return r, nil
}

// claim to go on alone. A claim that lost is looked at in the next step.
func (m *machine) claim(ctx context.Context, stands Record) (won bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, arbiterLimit)
	defer cancel()
	next, won, err := m.arbiter.ClaimSolo(ctx, m.name, stands.Generation)
	if err != nil {
		return false, fmt.Errorf("claim to go on without standby %s for machine %s: %w; the guest stays as it is until the arbiter answers",
			stands.Standby, m.name, err)
	}
	m.log.Info("claimed to go on alone", "won", won, "voice", next.Voice, "generation", next.Generation)
	return won, nil
}

// note logs a failure once, not at each try.
func (m *machine) note(ctx context.Context, err error) {
	if err == nil {
		m.said = ""
		return
	}
	if text := err.Error(); text != m.said && ctx.Err() == nil {
		m.said = text
		m.log.Error("not done yet; trying on", "error", err)
	}
}
