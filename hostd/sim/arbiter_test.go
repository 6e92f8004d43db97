package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
)

// arbiterStore holds the records. They change at one moment each, which the
// oracle sees.
type arbiterStore struct {
	w       *world
	mu      sync.Mutex
	records map[string]arbiter.Record
	by      map[string]*incarnation // whose claim stands
	reach   map[string]*reach
	asked   int // how many questions and claims are on their way
	empty   bool
}

func newArbiter(w *world) *arbiterStore {
	return &arbiterStore{w: w, records: map[string]arbiter.Record{}, by: map[string]*incarnation{}, reach: map[string]*reach{}}
}

// reach is how a host reaches the arbiter.
type reach struct {
	cut  bool          // no claim arrives
	deaf bool          // no answer arrives
	slow time.Duration // each way
}

func (a *arbiterStore) stands(machine string) arbiter.Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.records[machine]
}

// says what it answers to a host. While it is empty it knows of nothing.
func (a *arbiterStore) says(machine string) arbiter.Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.empty {
		return arbiter.Record{}
	}
	return a.records[machine]
}

// forget all records, or have them back.
func (a *arbiterStore) forget(empty bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.empty = empty
}

func (a *arbiterStore) isEmpty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.empty
}

// lose the records for good, and tell which one stood.
func (a *arbiterStore) lose(machine string) arbiter.Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	stood := a.records[machine]
	a.empty = false
	clear(a.records)
	clear(a.by)
	return stood
}

func (a *arbiterStore) way(host string) reach {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.reach[host]
	if r == nil {
		return reach{}
	}
	return *r
}

func (a *arbiterStore) change(host string, f func(*reach)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reach[host] == nil {
		a.reach[host] = &reach{}
	}
	f(a.reach[host])
}

// asks counts what is on its way.
func (a *arbiterStore) asks() (answered func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked--
	}
}

func (a *arbiterStore) busy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked > 0
}

// land decides a claim.
func (a *arbiterStore) land(i *incarnation, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	// The oracle's lock orders records and frames.
	a.w.oracle.mu.Lock()
	defer a.w.oracle.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	stands := a.records[next.Machine]
	if a.empty && stands.Generation != 0 {
		if expect == 0 {
			// It would grant this to anybody: no operator starts a machine meanwhile. This is
			// one's who has begun to before.
			return arbiter.Record{}, fmt.Errorf("claim: %w", arbiter.ErrOutcomeUnknown)
		}
		stands = arbiter.Record{}
	}
	stands.Machine = next.Machine
	if stands.Generation != 0 && stands == next && a.by[next.Machine] == i {
		return next, nil // the same claim, repeated
	}
	if stands.Generation != expect {
		a.w.log("arbiter: %s denied %s after %d: %s %d %q/%q stands", i.name(), next.Kind, expect, stands.Kind, stands.Generation, stands.Voice, stands.Standby)
		return arbiter.Record{}, &arbiter.LostError{Expect: expect, Winner: stands}
	}
	a.records[next.Machine], a.by[next.Machine] = next, i
	a.w.log("arbiter: %s granted %s %d voice %q standby %q", i.name(), next.Kind, next.Generation, next.Voice, next.Standby)
	a.w.oracle.recorded(stands, next, i.host.name)
	return next, nil
}

// asker is the arbiter as one daemon sees it.
type asker struct{ *incarnation }

func (k asker) travel(ctx context.Context) error {
	a := k.host.w.arbiter
	for {
		r := a.way(k.host.name)
		if err := sleep(ctx, r.slow+k.host.w.between(50*time.Microsecond, 2*time.Millisecond)); err != nil {
			return err
		}
		if !r.cut {
			return nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// back carries an answer.
func (k asker) back(ctx context.Context) error {
	for {
		r := k.host.w.arbiter.way(k.host.name)
		if err := sleep(ctx, r.slow+k.host.w.between(50*time.Microsecond, 2*time.Millisecond)); err != nil {
			return err
		}
		if !r.deaf && !r.cut {
			return nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

func (k asker) Current(ctx context.Context, machine string) (arbiter.Record, error) {
	defer k.host.w.arbiter.asks()()
	if err := k.travel(ctx); err != nil {
		return arbiter.Record{}, fmt.Errorf("read the record: %w", err)
	}
	r := k.host.w.arbiter.says(machine)
	r.Machine = machine
	if err := k.back(ctx); err != nil {
		return arbiter.Record{}, fmt.Errorf("read the record: %w", err)
	}
	return r, nil
}

// TestAndSet may land after its context has ended, and after its daemon's end.
func (k asker) TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	w := k.host.w
	defer w.arbiter.asks()()
	next.Time = time.Time{}
	if k.isDead() {
		return arbiter.Record{}, context.Canceled
	}
	if err := k.travel(ctx); err != nil {
		if w.chance(2) {
			return arbiter.Record{}, fmt.Errorf("claim: %w: %w", arbiter.ErrOutcomeUnknown, err)
		}
		landed := w.arbiter.asks()
		w.tasks.Go(func() { // it was on its way
			defer landed()
			time.Sleep(w.between(0, 3*time.Second))
			_, _ = w.arbiter.land(k.incarnation, expect, next)
		})
		return arbiter.Record{}, fmt.Errorf("claim: %w: %w", arbiter.ErrOutcomeUnknown, err)
	}
	won, err := w.arbiter.land(k.incarnation, expect, next)
	if ctxErr := k.back(ctx); ctxErr != nil {
		return arbiter.Record{}, fmt.Errorf("claim: %w: %w", arbiter.ErrOutcomeUnknown, ctxErr)
	}
	return won, err
}
