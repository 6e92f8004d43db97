package nemesis

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
)

const build = "../../build"

var (
	seed   = flag.Uint64("nemesis.seed", 0, "run this seed instead of the fixed ones")
	rounds = flag.Int("nemesis.rounds", 4, "rounds for each seed")
)

// TestNemesis runs fixed seeds. "go test ./e2e/nemesis -nemesis.seed N" repeats
// one that a soak has printed.
func TestNemesis(t *testing.T) {
	if err := lab.Available(); err != nil {
		t.Skip(err)
	}
	seeds := []uint64{1, 2}
	if *seed != 0 {
		seeds = []uint64{*seed}
	}
	each := *rounds
	if *seed == 0 && pace.Here().Slow() {
		each = min(each, 2)
	}
	for i, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			pace.SkipOnSlow(t, i == 0)
			r, err := Run(t.Context(), Options{Build: build, Seed: seed, Rounds: each, Progress: os.Stderr})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d packets sent, %d lost, %d duplicated, %d reordered", r.Sent, r.Lost, r.Duplicated, r.Reordered)
			// The findings last: a long log is often cut at its beginning.
			if len(r.Findings) > 0 {
				t.Logf("%s\n%s", r.Logs, strings.Join(r.Events, "\n"))
			}
			for _, f := range r.Findings {
				t.Error(f)
			}
		})
	}
}
