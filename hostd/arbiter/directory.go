package arbiter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// atOnce bounds how many operations wait for a file system that hangs.
const atOnce = 8

// Directory is an arbiter in a directory that all hosts share:
// DIR/<machine>/<generation, 20 digits>.json. A record is written to a
// temporary file, fsynced, and linked to its name, which fails if the name
// exists. Records are never removed: a late claim must find its name taken.
//
// Methods may be called concurrently. They return by the end of their context
// even if the file system hangs.
type Directory struct {
	store store
	slots chan struct{}
	owned sync.WaitGroup

	mu sync.Mutex
	// unanswered are claims, by their token, of which the claimant has not
	// been told that they won.
	unanswered map[string]struct{}
}

// OpenDirectory uses an existing directory. It makes none: where the shared
// file system is not mounted, a directory of one's own would grant everything.
func OpenDirectory(dir string) (*Directory, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: dir, Err: errors.New("not a directory")}
	}
	if err != nil {
		return nil, fmt.Errorf("open arbiter directory: %w", err)
	}
	return &Directory{
		store: store{dir, syncDirectory}, slots: make(chan struct{}, atOnce), unanswered: make(map[string]struct{}),
	}, nil
}

// Close waits for operations whose callers have left. A hanging file system
// makes it wait.
func (d *Directory) Close() error {
	d.owned.Wait()
	return nil
}

// Current returns the record that stands; one of generation 0 if there is
// none. It fails with ErrName, ErrCorrupt, the context's error or that of the
// file system.
func (d *Directory) Current(ctx context.Context, machine string) (Record, error) {
	if err := checkMachine(machine); err != nil {
		return Record{}, err
	}
	e, err := d.run(ctx, func() (entry, error) { return d.store.current(machine) })
	if err != nil {
		return Record{}, fmt.Errorf("read arbiter's record of machine %s: %w", machine, err)
	}
	return e.Record, nil
}

// TestAndSet makes next the record that stands if the generation expect
// stands now (0: none). next.Generation is expect+1, or 0 for the same. It
// returns the record granted, once it is on stable storage.
//
// It fails with a *LostError if another record stands; nothing was granted
// then. With ErrOutcomeUnknown the claim may have won: ask again with the same
// claim on the same Directory, or read Current. Any other error: nothing was
// granted.
func (d *Directory) TestAndSet(ctx context.Context, expect uint64, next Record) (Record, error) {
	next, err := next.completed(expect)
	if err != nil {
		return Record{}, err
	}
	claim := entry{Record: next, Claim: rand.Text()}
	granted, err := d.run(ctx, func() (entry, error) { return d.claim(ctx, expect, claim) })
	var lost *LostError
	switch {
	case err == nil:
		d.forget(granted)
		return granted.Record, nil
	case errors.As(err, &lost):
		return Record{}, err
	}
	return Record{}, fmt.Errorf("claim generation %d of machine %s: %w", next.Generation, next.Machine, err)
}

type outcome struct {
	entry entry
	err   error
}

// run lets the caller leave at the end of its context. What it started goes on
// and is waited for by Close.
func (d *Directory) run(ctx context.Context, operation func() (entry, error)) (entry, error) {
	if err := ctx.Err(); err != nil {
		return entry{}, err
	}
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return entry{}, fmt.Errorf("earlier operations hang: %w", ctx.Err())
	}
	result := make(chan outcome, 1)
	d.owned.Go(func() {
		defer func() { <-d.slots }()
		e, err := operation()
		result <- outcome{e, err}
	})
	select {
	case o := <-result:
		return o.entry, o.err
	case <-ctx.Done():
		return entry{}, fmt.Errorf("%w: no answer from the file system: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

func (d *Directory) claim(ctx context.Context, expect uint64, next entry) (entry, error) {
	stands, err := d.store.current(next.Machine)
	if err != nil {
		return entry{}, err
	}
	d.store.sweep(next.Machine, stands.Generation)
	if d.isUnanswered(stands) && stands.sameClaim(next.Record) {
		return d.settled(stands)
	}
	if stands.Generation != expect {
		return entry{}, &LostError{Expect: expect, Winner: stands.Record}
	}
	d.expectAnswer(next)
	if err := d.store.create(ctx, next); err != nil {
		if err := d.failed(next, err); err != nil {
			return entry{}, err
		}
	}
	d.store.sweep(next.Machine, next.Generation)
	return d.settled(next)
}

// failed finds out what became of a claim whose creation failed; nil means
// that it stands all the same: NFS repeats a call whose answer was lost.
func (d *Directory) failed(next entry, why error) error {
	stands, err := d.store.current(next.Machine)
	switch {
	case err == nil && stands.Claim == next.Claim:
		return nil
	case err == nil && stands.Generation >= next.Generation:
		d.forget(next)
		return &LostError{Expect: next.Generation - 1, Winner: stands.Record}
	case errors.Is(why, errBeforeLink):
		d.forget(next)
		return why
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, errors.Join(why, err))
}

// settled makes a record that stands durable before its claimant hears of it.
func (d *Directory) settled(e entry) (entry, error) {
	if err := d.store.settle(e.Machine); err != nil {
		return entry{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return e, nil
}

func (d *Directory) expectAnswer(e entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unanswered[e.Claim] = struct{}{}
}

func (d *Directory) forget(e entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.unanswered, e.Claim)
}

func (d *Directory) isUnanswered(e entry) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.unanswered[e.Claim]
	return ok
}
