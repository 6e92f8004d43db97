package voice

import (
	"context"
	"errors"
	"fmt"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
)

// Kinds of records. docs/safety.md says who claims which, and what it needs.
const (
	Started  = "started"
	Pair     = "pair"
	Solo     = "solo"
	Takeover = "takeover"
	Handover = "handover"
	Return   = "return"
	Stopped  = "stopped"
)

// ErrHeld says that another host speaks for the machine.
var ErrHeld = errors.New("another host speaks for the machine")

// Store of the records: the arbiter.
type Store interface {
	Current(ctx context.Context, machine string) (arbiter.Record, error)
	// TestAndSet stores next if the machine's generation is expect; a
	// *arbiter.LostError tells the record that stands instead.
	TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error)
}

// Claim of a host to follow one generation with the next.
type Claim struct {
	Machine string
	Kind    string
	Host    string // that claims
	Expect  uint64 // the generation that it follows
	Other   string // pair: the standby; return: the host that gets the machine back
}

// Record that the claim makes if it wins.
func (c Claim) Record() arbiter.Record {
	r := arbiter.Record{Machine: c.Machine, Generation: c.Expect + 1, Voice: c.Host, Kind: c.Kind}
	switch c.Kind {
	case Pair:
		r.Standby = c.Other
	case Return:
		r.Voice = c.Other
	case Stopped:
		r.Voice = ""
	}
	return r
}

// Follows reports whether the claim's record may follow the one that stands.
func (c Claim) Follows(stands arbiter.Record) bool {
	if stands.Generation != c.Expect || c.Host == "" {
		return false
	}
	speaks := stands.Voice == c.Host
	switch c.Kind {
	case Started:
		return speaks || stands.Voice == ""
	case Pair:
		return speaks && c.Other != "" && c.Other != c.Host
	case Solo, Stopped:
		return speaks
	case Takeover, Handover:
		return stands.Standby == c.Host
	case Return:
		return speaks && stands.Kind == Handover && c.Other != "" && c.Other != c.Host
	}
	return false
}

// made reports whether the record is this claim's own, won by an earlier try whose
// answer was lost. Only the host that speaks stops a machine, so a record that
// stops it after the generation it spoke in is its own.
func (c Claim) made(stands arbiter.Record) bool {
	r := c.Record()
	return stands.Generation == r.Generation && stands.Voice == r.Voice && stands.Standby == r.Standby && stands.Kind == r.Kind
}

// Make the claim, once. A *arbiter.LostError tells the record that stands instead.
// The claim was made for certain, or not, unless the error is
// arbiter.ErrOutcomeUnknown. Records do not change, so that looking at the one that
// stands before the test-and-set is enough.
func (c Claim) Make(ctx context.Context, s Store) (arbiter.Record, error) {
	stands, err := s.Current(ctx, c.Machine)
	if err != nil {
		return stands, fmt.Errorf("ask the arbiter who speaks for machine %s: %w", c.Machine, notMade{err})
	}
	if c.made(stands) {
		return stands, nil
	}
	if !c.Follows(stands) {
		return stands, &arbiter.LostError{Expect: c.Expect, Winner: stands}
	}
	return s.TestAndSet(ctx, c.Expect, c.Record())
}

// notMade hides from errors.Is what an unanswered question is like: nothing was
// claimed.
type notMade struct{ error }

// Start claims the voice of a machine that is to start on a host, from the record that
// stands. It fails with ErrHeld where another host has it.
func Start(ctx context.Context, s Store, machine string, stands arbiter.Record, host string) (arbiter.Record, error) {
	if stands.Voice != "" && stands.Voice != host {
		return stands, fmt.Errorf("%w: host %s does for %s (generation %d); stop it there first, or start it there if nothing is left of it", ErrHeld, stands.Voice, machine, stands.Generation)
	}
	return Claim{Machine: machine, Kind: Started, Host: host, Expect: stands.Generation}.Make(ctx, s)
}

// Alone claims to go on without a standby from a record that gives this host the
// voice: for a QEMU of an earlier daemon. It claims also where the record names
// no standby, since a claim of the daemon that is gone may be on its way still and
// must find its generation taken.
func Alone(ctx context.Context, s Store, stands arbiter.Record, host string) (arbiter.Record, error) {
	kind := Started
	if stands.Standby != "" {
		kind = Solo
	}
	return Claim{Machine: stands.Machine, Kind: kind, Host: host, Expect: stands.Generation}.Make(ctx, s)
}

// Forgot reports that the arbiter has lost what it granted: it has no record, or
// one that is older than a generation that this host knows of. Nothing may be
// concluded from it then.
func Forgot(stands arbiter.Record, known uint64) bool {
	return stands.Generation == 0 || stands.Generation < known
}
