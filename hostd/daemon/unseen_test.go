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
