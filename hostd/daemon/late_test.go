package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/pair"
	"github.com/stillpoint-ft/stillpoint/hostd/voice"
	"github.com/stillpoint-ft/stillpoint/hostd/yamlfile"
)

// TestAnHeirOutlastsTheOldPrimary and waits for nothing else.
func TestAnHeirOutlastsTheOldPrimary(t *testing.T) {
	const limit = time.Second
	for name, c := range map[string]struct {
		past func(*heirs)
		want time.Duration
	}{
		"an earlier daemon's": {func(*heirs) {}, limit},
		"started here":        {func(h *heirs) { h.started(arbiter.Record{Machine: "m", Generation: 1}) }, 0},
		"taken over": {func(h *heirs) {
			h.started(arbiter.Record{Machine: "m", Generation: 1})
			h.stands(arbiter.Record{Machine: "m", Voice: "a", Generation: 3, Kind: voice.Takeover})
		}, limit},
		"handed over": {func(h *heirs) {
			h.started(arbiter.Record{Machine: "m", Generation: 1})
			h.stands(arbiter.Record{Machine: "m", Voice: "a", Generation: 3, Kind: voice.Handover})
		}, limit},
		"alone again": {func(h *heirs) {
			h.started(arbiter.Record{Machine: "m", Generation: 1})
			h.stands(arbiter.Record{Machine: "m", Voice: "a", Generation: 3, Kind: voice.Solo})
		}, 0},
		"taken over long ago": {func(h *heirs) {
			h.stands(arbiter.Record{Machine: "m", Voice: "a", Generation: 3, Kind: voice.Takeover})
			time.Sleep(2 * limit)
		}, 0},
		"taken over, and anew": {func(h *heirs) {
			h.stands(arbiter.Record{Machine: "m", Voice: "a", Generation: 3, Kind: voice.Takeover})
			h.started(arbiter.Record{Machine: "m", Generation: 4})
		}, 0},
		"an earlier daemon's, of a longer limit": {func(h *heirs) { h.served("m", 3*limit) }, 3 * limit},
		"taken over, after a longer limit": {func(h *heirs) {
			h.served("m", 3*limit)
			time.Sleep(limit)
			h.stands(arbiter.Record{Machine: "m", Voice: "a", Generation: 3, Kind: voice.Takeover})
		}, 3 * limit},
		"a shorter limit": {func(h *heirs) { h.served("m", limit/2) }, limit},
		"another machine": {func(h *heirs) {
			h.started(arbiter.Record{Machine: "m", Generation: 1})
			h.stands(arbiter.Record{Machine: "n", Voice: "a", Generation: 3, Kind: voice.Takeover})
		}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHeirs("a", limit)
			c.past(h)
			began := time.Now()
			h.outlast(context.Background(), "m")
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
	own, others := arbiter.Record{Machine: "m", Voice: "a", Generation: 3, Kind: "takeover"}, arbiter.Record{Generation: 3, Kind: "stopped"}
	for name, c := range map[string]struct {
		stands arbiter.Record
		claim  func(*guest)
		want   time.Duration
	}{
		"stopped":                         {own, func(g *guest) { g.claim(pair.Claim{Kind: pair.ClaimStop, Expect: 3}) }, limit},
		"solo":                            {own, func(g *guest) { g.claim(pair.Claim{Kind: pair.ClaimSolo, Expect: 3, Voice: "a"}) }, 0},
		"given back":                      {own, func(g *guest) { _ = g.d.releaseVoice(g.ctx, "m", 3) }, limit},
		"started where it was taken over": {own, func(g *guest) { _, _ = g.d.claimVoice(g.ctx, "m") }, limit},
		"started where nobody had it":     {others, func(g *guest) { _, _ = g.d.claimVoice(g.ctx, "m") }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := New(Options{Config: config.Config{Host: "a", Detection: config.Detection{Limit: yamlfile.Duration(limit)}}, Arbiter: agrees{c.stands}})
			defer d.end()
			g := &guest{d: d, name: "m", ctx: d.ctx, door: voice.NewDoor("a"), log: hclog.NewNullLogger(), events: make(chan pair.Event, 2)}
			d.heirs.started(arbiter.Record{Machine: "m", Generation: 1})
			g.claim(pair.Claim{Kind: pair.ClaimTakeover, Expect: 2, Voice: "a"})
			began := time.Now()
			c.claim(g)
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
	if next.Kind == voice.Takeover {
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
		o := &overtaken{arbiter.Record{Voice: "b", Standby: "a", Generation: 2, Kind: "pair"}}
		d := New(Options{Config: config.Config{Host: "a", Detection: config.Detection{Limit: yamlfile.Duration(limit)}}, Arbiter: o})
		defer d.end()
		g := &guest{d: d, name: "m", ctx: d.ctx, door: voice.NewDoor("a"), log: hclog.NewNullLogger(), events: make(chan pair.Event, 2)}
		d.heirs.started(arbiter.Record{Machine: "m", Generation: 1}) // long ago
		g.claim(pair.Claim{Kind: pair.ClaimTakeover, Expect: 2, Voice: "a"})
		<-g.events
		began := time.Now()
		g.claim(pair.Claim{Kind: pair.ClaimStop, Expect: 3})
		if took := time.Since(began); took != limit {
			t.Errorf("waited %v, want %v", took, limit)
		}
	})
}
