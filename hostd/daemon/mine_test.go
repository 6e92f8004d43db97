package daemon

import (
	"context"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
	"github.com/stillpoint-ft/stillpoint/hostd/config"
	"github.com/stillpoint-ft/stillpoint/hostd/saved"
)

// TestWhoMayGoOn: an operator's decision is about what the arbiter has forgotten. A
// guest of long ago must not go on where others have spoken since.
func TestWhoMayGoOn(t *testing.T) {
	for _, c := range []struct {
		what    string
		stands  arbiter.Record
		decided bool
		want    bool
	}{
		{"its own", arbiter.Record{Voice: "a", Generation: 7}, false, true},
		{"another's", arbiter.Record{Voice: "b", Generation: 9}, true, false},
		{"nobody's", arbiter.Record{Generation: 9}, false, false},
		{"nobody's, after another's", arbiter.Record{Generation: 9}, true, false},
		{"forgotten", arbiter.Record{}, true, true},
		{"forgotten, and nobody decided", arbiter.Record{}, false, false},
		{"forgotten in part", arbiter.Record{Generation: 6}, true, true},
	} {
		if got := mine(c.stands, "a", &earlier{saved: saved.State{Generation: 7}, decided: c.decided}); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// leaves has the caller gone with the claim on its way.
type leaves struct {
	Arbiter
	caller context.CancelFunc
}

func (l leaves) Current(context.Context, string) (arbiter.Record, error) {
	return arbiter.Record{}, nil
}

func (l leaves) TestAndSet(ctx context.Context, expect uint64, next arbiter.Record) (arbiter.Record, error) {
	l.caller()
	if ctx.Err() != nil {
		return arbiter.Record{}, arbiter.ErrOutcomeUnknown
	}
	return next, nil
}

// TestACallerWhoLeavesAClaim: its answer is waited for, so that it can be undone.
func TestACallerWhoLeavesAClaim(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := New(Options{Config: config.Config{Host: "a"}, Arbiter: leaves{caller: cancel}})
	defer d.end()
	if won, err := d.voices.Start(ctx, "m"); err != nil || won.Generation != 1 {
		t.Errorf("won %+v, %v", won, err)
	}
	if _, err := d.voices.Start(ctx, "m"); err == nil {
		t.Error("the voice is claimed for a caller who has gone")
	}
}
