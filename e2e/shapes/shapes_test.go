package shapes

import (
	"errors"
	"os"
	"testing"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	"github.com/stillpoint-ft/stillpoint/e2e/pace"
	"github.com/stillpoint-ft/stillpoint/e2e/scene"
)

const build = "../../build"

// both is what sets of shapes are tested with; what runs depends on set-up.
var both = []string{"11", "10.0"}

func TestPairwiseHasAllPairs(t *testing.T) {
	fs, all := factors(both), Pairwise(both)
	t.Logf("%d shapes", len(all))
	for f := range fs {
		for g := range fs[:f] {
			for _, v := range fs[f].values {
				for _, w := range fs[g].values {
					if !meet(all, fs[f], v, fs[g], w) {
						t.Errorf("no shape has %s %s and %s %s", fs[f].name, v, fs[g].name, w)
					}
				}
			}
		}
	}
	if len(all) > 60 {
		t.Errorf("%d shapes are more than needed", len(all))
	}
}

func meet(all []Shape, f factor, v string, g factor, w string) bool {
	for _, s := range all {
		if *f.of(&s) == v && *g.of(&s) == w {
			return true
		}
	}
	return false
}

func TestFewHaveAllValues(t *testing.T) {
	all := Few(both)
	for _, f := range factors(both) {
		for _, v := range f.values {
			if !meet(all, f, v, f, v) {
				t.Errorf("no shape has %s %s", f.name, v)
			}
		}
	}
	if len(all) > 6 {
		t.Errorf("%d shapes", len(all))
	}
}

// TestMachines protects a few shapes, in which each value occurs; "make machines"
// tries all pairs of values.
func TestMachines(t *testing.T) {
	if err := lab.Available(); err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat(scene.QEMUProgram(build, "")); err != nil {
		t.Fatalf("%v; run \"make setup build\" first", err)
	}
	for i, shape := range Few(scene.Series(build)) {
		t.Run(shape.String(), func(t *testing.T) {
			pace.SkipOnSlow(t, i%3 == 0)
			r, err := Run(t.Context(), build, shape)
			if errors.Is(err, ErrNoRoom) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Log(r)
		})
	}
}
