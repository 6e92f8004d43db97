package daemon

import (
	"strings"
	"testing"

	"github.com/stillpoint-ft/stillpoint/hostd/gate"
)

func TestWarningsOfLostFrames(t *testing.T) {
	for _, c := range []struct {
		stats gate.Stats
		want  []string
	}{
		{gate.Stats{}, nil},
		{gate.Stats{Lost: 7}, []string{"7 frames of output were lost at an uplink"}},
		{gate.Stats{Uncarried: 9}, []string{"9 frames that stand for many segments were lost"}},
		{gate.Stats{Lost: 1, Uncarried: 2}, []string{"1 frames of output", "2 frames that stand for many"}},
	} {
		got := lossWarnings(c.stats)
		if len(got) != len(c.want) {
			t.Errorf("%+v: %q", c.stats, got)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%+v: %q, want %q", c.stats, got[i], want)
			}
		}
	}
}
