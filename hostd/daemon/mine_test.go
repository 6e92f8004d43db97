package daemon

import (
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/arbiter"
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
		if got := mine(c.stands, "a", &earlier{saved: saved{Generation: 7}, decided: c.decided}); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}
