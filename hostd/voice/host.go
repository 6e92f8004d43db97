package voice

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
)

// askLimit is how long the arbiter may take to answer what no role machine waits for.
const askLimit = 10 * time.Second

// Host is where machines run: it claims their voices, and remembers until when their old
// primaries may be heard. Its methods may be called concurrently.
type Host struct {
	*Heirs
	name  string
	store Store
}

// NewHost has a name, and asks a store. limit is the detection limit of its pairs.
func NewHost(name string, store Store, limit time.Duration) *Host {
	return &Host{Heirs: newHeirs(name, limit), name: name, store: store}
}

// Claim the voice of a machine in a claim's way, once, within a limit, and note the record
// that stands. A claim that lets the machine be started elsewhere first outlasts its old
// primary. asking is called when that is over. A *arbiter.LostError tells the record that
// stands instead, which is returned too.
func (h *Host) Claim(ctx context.Context, c Claim, limit time.Duration, asking func()) (arbiter.Record, error) {
	if c.Kind == Stopped {
		h.Outlast(ctx, c.Machine)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	asking()
	stands, err := c.Make(ctx, h.store)
	var lost *arbiter.LostError
	if errors.As(err, &lost) {
		stands = lost.Winner
	}
	if err == nil || lost != nil {
		h.stands(c.Machine, stands)
	}
	return stands, err
}

// Start claims the voice of a machine that is about to be started here. What is asked is
// waited for even if the caller leaves meanwhile: else the voice might be granted to a
// host that does not know it, and start nothing.
func (h *Host) Start(ctx context.Context, machine string) (r arbiter.Record, err error) {
	stands, err := h.outlastPast(ctx, machine)
	if err == nil {
		claim, cancel := context.WithTimeout(context.WithoutCancel(ctx), askLimit)
		defer cancel()
		r, err = Start(claim, h.store, machine, stands, h.name)
	}
	if err != nil {
		return r, fmt.Errorf("claim the voice of machine %s: %w; nothing was started", machine, err)
	}
	h.Started(r)
	return r, nil
}

// outlastPast waits for what an old primary may still say of a machine that is to be
// started anew, and returns the record that stands. Where this host does not have the
// voice, whoever gave it up has waited.
func (h *Host) outlastPast(ctx context.Context, machine string) (arbiter.Record, error) {
	stands, err := h.Current(ctx, machine)
	if err == nil && stands.Voice == h.name {
		h.Outlast(ctx, machine)
	}
	return stands, errors.Join(err, ctx.Err())
}

// Current is the record that stands, asked within a limit, and noted.
func (h *Host) Current(ctx context.Context, machine string) (arbiter.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	r, err := h.store.Current(ctx, machine)
	if err == nil {
		h.stands(machine, r)
	}
	return r, err
}

// Alone is the function of that name, for this host.
func (h *Host) Alone(ctx context.Context, stands arbiter.Record) (arbiter.Record, error) {
	return Alone(ctx, h.store, stands, h.name)
}

// Holds reports whether this host has the voice of a machine by that generation still.
func (h *Host) Holds(ctx context.Context, machine string, generation uint64) (bool, error) {
	r, err := h.Current(ctx, machine)
	return err == nil && r.Voice == h.name && r.Generation == generation, err
}

// ErrSilent says that the arbiter has not answered in time.
var ErrSilent = errors.New("the arbiter does not answer")

// Confirm checks within a limit that this host's arbiter has the record by which a primary
// speaks: a standby that asks another arbiter never gets the voice. The error is ErrSilent
// where it does not answer.
func (h *Host) Confirm(ctx context.Context, machine, primary string, generation uint64, limit time.Duration) error {
	asked, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stands, err := h.store.Current(asked, machine)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSilent, err)
	}
	if stands.Generation == generation && (stands.Voice == primary || generation == 0) {
		return nil
	}
	if Forgot(stands, generation) {
		return fmt.Errorf("the arbiter of host %s knows no generation %d of machine %s, by which host %s speaks, and says %d: it has lost its records, or is not the one that host %s asks, see \"arbiter\" in their configurations",
			h.name, generation, machine, primary, stands.Generation, primary)
	}
	return fmt.Errorf("the arbiter of host %s says that host %q has the voice of machine %s (generation %d), that of host %s says generation %d: all hosts must ask the same arbiter, see \"arbiter\" in their configurations",
		h.name, stands.Voice, machine, stands.Generation, primary, generation)
}

// GiveUp records that nobody speaks for a machine of which nothing runs here, so that any
// host may start it. Where another host has the voice already, it is not ours to give up.
func (h *Host) GiveUp(ctx context.Context, machine string, generation uint64) error {
	c := Claim{Machine: machine, Kind: Stopped, Host: h.name, Expect: generation}
	stands, err := h.Claim(ctx, c, askLimit, func() {})
	if errors.As(err, new(*arbiter.LostError)) && !Forgot(stands, generation) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("release the voice of machine %s: %w; this host keeps it, so that it can be started here only", machine, err)
	}
	return nil
}
