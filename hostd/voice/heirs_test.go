package voice

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
)

// TestAnHeirOutlastsTheOldPrimary and waits for nothing else.
func TestAnHeirOutlastsTheOldPrimary(t *testing.T) {
	const limit = time.Second
	for name, c := range map[string]struct {
		past func(*Heirs)
		want time.Duration
	}{
		"an earlier daemon's": {func(*Heirs) {}, limit},
		"started here":        {func(h *Heirs) { h.Started(arbiter.Record{Machine: "m", Generation: 1}) }, 0},
		"taken over": {func(h *Heirs) {
			h.Started(arbiter.Record{Machine: "m", Generation: 1})
			h.stands("m", arbiter.Record{Voice: "a", Generation: 3, Kind: Takeover})
		}, limit},
		"handed over": {func(h *Heirs) {
			h.Started(arbiter.Record{Machine: "m", Generation: 1})
			h.stands("m", arbiter.Record{Voice: "a", Generation: 3, Kind: Handover})
		}, limit},
		"alone again": {func(h *Heirs) {
			h.Started(arbiter.Record{Machine: "m", Generation: 1})
			h.stands("m", arbiter.Record{Voice: "a", Generation: 3, Kind: Solo})
		}, 0},
		"taken over long ago": {func(h *Heirs) {
			h.stands("m", arbiter.Record{Voice: "a", Generation: 3, Kind: Takeover})
			time.Sleep(2 * limit)
		}, 0},
		"taken over, and anew": {func(h *Heirs) {
			h.stands("m", arbiter.Record{Voice: "a", Generation: 3, Kind: Takeover})
			h.Started(arbiter.Record{Machine: "m", Generation: 4})
		}, 0},
		"an earlier daemon's, of a longer limit": {func(h *Heirs) { h.Served("m", 3*limit) }, 3 * limit},
		"taken over, after a longer limit": {func(h *Heirs) {
			h.Served("m", 3*limit)
			time.Sleep(limit)
			h.stands("m", arbiter.Record{Voice: "a", Generation: 3, Kind: Takeover})
		}, 3 * limit},
		"a shorter limit": {func(h *Heirs) { h.Served("m", limit/2) }, limit},
		"another machine": {func(h *Heirs) {
			h.Started(arbiter.Record{Machine: "m", Generation: 1})
			h.stands("n", arbiter.Record{Voice: "a", Generation: 3, Kind: Takeover})
		}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHeirs("a", limit)
			c.past(h)
			began := time.Now()
			h.Outlast(context.Background(), "m")
			if took := time.Since(began); took != c.want {
				t.Errorf("%s: waited %v, want %v", name, took, c.want)
			}
		})
	}
}

// agrees to every claim, after the record that stands.
type agrees struct{ stands arbiter.Record }

func (a agrees) Current(context.Context, string) (arbiter.Record, error) { return a.stands, nil }

func (a agrees) TestAndSet(_ context.Context, _ uint64, next arbiter.Record) (arbiter.Record, error) {
	return next, nil
}

// TestWhatAnHeirWaitsWith: with what lets the machine be started anew, in every way in
// which that is claimed.
func TestWhatAnHeirWaitsWith(t *testing.T) {
	const limit = time.Second
	own, others := arbiter.Record{Machine: "m", Voice: "a", Generation: 3, Kind: Takeover}, arbiter.Record{Generation: 3, Kind: Stopped}
	claim := func(kind string) func(*Host) {
		return func(h *Host) {
			_, _ = h.Claim(context.Background(), Claim{Machine: "m", Kind: kind, Host: "a", Expect: 3}, limit, func() {})
		}
	}
	for name, c := range map[string]struct {
		stands arbiter.Record
		claim  func(*Host)
		want   time.Duration
	}{
		"stopped":                         {own, claim(Stopped), limit},
		"solo":                            {own, claim(Solo), 0},
		"given back":                      {own, func(h *Host) { _ = h.GiveUp(context.Background(), "m", 3) }, limit},
		"started where it was taken over": {own, func(h *Host) { _, _ = h.Start(context.Background(), "m") }, limit},
		"started where nobody had it":     {others, func(h *Host) { _, _ = h.Start(context.Background(), "m") }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := NewHost("a", agrees{c.stands}, limit)
			h.Started(arbiter.Record{Machine: "m", Generation: 1})
			h.stands("m", own)
			began := time.Now()
			c.claim(h)
			if took := time.Since(began); took != c.want {
				t.Errorf("%s: waited %v, want %v", name, took, c.want)
			}
		})
	}
}

// overtaken grants a claim that an earlier one of the same host has overtaken.
type overtaken struct{ stands arbiter.Record }

func (o *overtaken) Current(context.Context, string) (arbiter.Record, error) { return o.stands, nil }

func (o *overtaken) TestAndSet(_ context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	if next.Kind == Takeover {
		o.stands = next
		return arbiter.Record{}, &arbiter.LostError{Expect: expect, Winner: next}
	}
	return next, nil
}

// TestAnHeirThatWonUnseen waits as any other: the role machine takes such an answer for
// a grant.
func TestAnHeirThatWonUnseen(t *testing.T) {
	const limit = time.Second
	synctest.Test(t, func(t *testing.T) {
		h := NewHost("a", &overtaken{arbiter.Record{Machine: "m", Voice: "b", Standby: "a", Generation: 2, Kind: Pair}}, limit)
		h.Started(arbiter.Record{Machine: "m", Generation: 1}) // long ago
		stands, err := h.Claim(context.Background(), Claim{Machine: "m", Kind: Takeover, Host: "a", Expect: 2}, limit, func() {})
		if stands.Voice != "a" || !errors.As(err, new(*arbiter.LostError)) {
			t.Fatal(stands, err)
		}
		began := time.Now()
		_, _ = h.Claim(context.Background(), Claim{Machine: "m", Kind: Stopped, Host: "a", Expect: 3}, limit, func() {})
		if took := time.Since(began); took != limit {
			t.Errorf("waited %v, want %v", took, limit)
		}
	})
}

// TestWhatAHostHolds, and what it gives up.
func TestWhatAHostHolds(t *testing.T) {
	stands := arbiter.Record{Machine: "m", Voice: "a", Generation: 3, Kind: Started}
	h := NewHost("a", agrees{stands}, 0)
	for generation, want := range map[uint64]bool{2: false, 3: true, 4: false} {
		if got, err := h.Holds(t.Context(), "m", generation); got != want || err != nil {
			t.Errorf("generation %d: %v, %v", generation, got, err)
		}
	}
	if got, _ := NewHost("b", agrees{stands}, 0).Holds(t.Context(), "m", 3); got {
		t.Error("another host holds it")
	}
	if err := h.GiveUp(t.Context(), "m", 2); err != nil {
		t.Errorf("another record stands, by which it is not ours: %v", err)
	}
	if err := h.GiveUp(t.Context(), "m", 9); err == nil {
		t.Error("given up at an arbiter that has forgotten it")
	}
	if r, err := h.Alone(t.Context(), stands); err != nil || r.Kind != Started || r.Generation != 4 {
		t.Error(r, err)
	}
}

// silent is an arbiter without a quorum.
type silent struct{ agrees }

func (silent) Current(context.Context, string) (arbiter.Record, error) {
	return arbiter.Record{}, errors.New("no quorum")
}

// TestAnArbiterConfirms the record by which a primary speaks, or says what it knows.
func TestAnArbiterConfirms(t *testing.T) {
	stands := arbiter.Record{Machine: "m", Voice: "b", Generation: 3, Kind: Started}
	for name, c := range map[string]struct {
		stands     arbiter.Record
		generation uint64
		why        string
	}{
		"the same":       {stands, 3, ""},
		"none yet":       {arbiter.Record{}, 0, ""},
		"another host's": {arbiter.Record{Voice: "c", Generation: 3}, 3, "host \"c\" has the voice"},
		"a later one":    {arbiter.Record{Voice: "b", Generation: 4}, 3, "all hosts must ask the same arbiter"},
		"an older one":   {stands, 4, "it has lost its records"},
		"none at all":    {arbiter.Record{}, 4, "it has lost its records"},
	} {
		err := NewHost("a", agrees{c.stands}, 0).Confirm(t.Context(), "m", "b", c.generation, time.Minute)
		if c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("%s: %v, want %q", name, err, c.why)
		}
	}
	if err := NewHost("a", silent{}, 0).Confirm(t.Context(), "m", "b", 3, time.Minute); !errors.Is(err, ErrSilent) {
		t.Error(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := NewHost("a", agrees{stands}, 0).Confirm(ended, "m", "b", 3, time.Minute); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
