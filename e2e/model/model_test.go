package model

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/pace"
)

const (
	source = "../../docs/model/pair.pml"
	limit  = 10 * time.Minute
)

func search(t *testing.T, s Search) Result {
	t.Helper()
	if name := Missing(); name != "" {
		t.Skipf("%s is not installed; \"make setup\" installs it", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s.Source = source
	r, err := s.Run(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestModel: within these bounds no run breaks an assertion, and every run ends
// with one voice. The bounds take turns, so that each may be large once.
func TestModel(t *testing.T) {
	for name, s := range map[string]Search{
		"two pairs, two faults":      {},
		"three pairs, two faults":    {Defines: []string{"PAIRS=3", "PACKETS=2"}},
		"one pair, three faults":     {Defines: []string{"PAIRS=1", "FAULTS=3", "PACKETS=2"}},
		"answers lost twice":         {Defines: []string{"FAULTS=1", "UNSEEN=2"}},
		"stopped":                    {Defines: []string{"PAIRS=1", "PACKETS=2", "STOPS=1"}},
		"a stop refused":             {Defines: []string{"PAIRS=1", "PACKETS=2", "FAULTS=1", "STOPS=1", "REFUSALS=1"}},
		"stopped, started anew":      {Defines: []string{"PAIRS=1", "PACKETS=2", "FAULTS=1", "STOPS=1", "STARTS=1"}},
		"adoption, supervisor":       {Defines: []string{"PAIRS=1", "PACKETS=2", "UNADOPTED=1", "SUPERS=1"}},
		"an arbiter that forgets":    {Defines: []string{"PAIRS=1", "PACKETS=2", "FORGOTTEN=1"}},
		"runs end, with a stop":      {Defines: []string{"PAIRS=1", "PACKETS=2", "FAULTS=1", "STOPS=1", "REFUSALS=1"}, Cycles: true},
		"runs end, with an adoption": {Defines: []string{"PAIRS=1", "PACKETS=2", "FAULTS=1", "UNADOPTED=1", "SUPERS=1", "FORGOTTEN=1"}, Cycles: true},
		"runs end, with two faults":  {Defines: []string{"PACKETS=2", "ASKS=0"}, Cycles: true},
		"runs end, with operators":   {Defines: []string{"FAULTS=1"}, Cycles: true},
	} {
		t.Run(name, func(t *testing.T) {
			pace.SkipOnSlow(t, slices.Contains(s.Defines, "FORGOTTEN=1"))
			r := search(t, s)
			if r.Violation != "" || !r.Complete {
				t.Fatalf("violation %q, search complete %v:\n%s", r.Violation, r.Complete, r.Output)
			}
			if r.States < 10000 {
				t.Errorf("only %d states: the model does too little", r.States)
			}
			t.Log(r.States, "states")
		})
	}
}

// TestModelReaches shows that the machine moves three times, so that the pair
// has been made both ways round.
func TestModelReaches(t *testing.T) {
	r := search(t, Search{Defines: []string{"PAIRS=3", "PACKETS=2", "REACH=3"}})
	if !strings.Contains(r.Violation, "takeovers<3") {
		t.Fatalf("violation %q, want the third takeover:\n%s", r.Violation, r.Output)
	}
}

// TestModelStartsAnew shows that a machine is stopped and started twice.
func TestModelStartsAnew(t *testing.T) {
	r := search(t, Search{Defines: []string{"PAIRS=1", "PACKETS=2", "FAULTS=0", "STOPS=2", "STARTS=2", "REACHED=2"}})
	if !strings.Contains(r.Violation, "starts<2") {
		t.Fatalf("violation %q, want the second start:\n%s", r.Violation, r.Output)
	}
}

// TestBadVariants: a model that finds nothing wrong with these finds nothing.
// Those with OUTSIDE must show there, as output that contradicts.
func TestBadVariants(t *testing.T) {
	for name, s := range map[string]Search{
		"solo without the arbiter":                     {Defines: []string{"BAD_SOLO", "OUTSIDE"}},
		"acknowledged after the decision to claim":     {Defines: []string{"BAD_ACK", "OUTSIDE"}},
		"released before the acknowledgement":          {Defines: []string{"BAD_EARLY", "OUTSIDE"}},
		"takeover by a standby that is not named":      {Defines: []string{"BAD_UNNAMED", "OUTSIDE"}},
		"output before a restarted daemon has asked":   {Defines: []string{"BAD_RESTART", "OUTSIDE"}},
		"adopted without a claim":                      {Defines: []string{"BAD_ADOPT", "OUTSIDE"}},
		"output leaves while a stop is asked":          {Defines: []string{"BAD_STOP", "STOPS=1", "OUTSIDE"}},
		"an unanswered stop is undone":                 {Defines: []string{"BAD_REOPEN", "STOPS=1", "OUTSIDE"}},
		"output passes after a refused stop":           {Defines: []string{"BAD_RESUME", "PAIRS=1", "PACKETS=2", "STOPS=1", "REFUSALS=1", "OUTSIDE"}},
		"a refused stop forgets what was won":          {Defines: []string{"BAD_WON", "PAIRS=1", "PACKETS=2", "STOPS=1", "REFUSALS=1"}},
		"started although another speaks":              {Defines: []string{"BAD_START", "PAIRS=1", "PACKETS=2", "STARTS=1", "OUTSIDE"}},
		"a failed adoption is not tried again":         {Defines: []string{"BAD_TRIED", "PAIRS=1", "PACKETS=2", "UNADOPTED=1"}},
		"a supervisor claims whatever stands":          {Defines: []string{"BAD_SUPER", "PAIRS=1", "PACKETS=2", "SUPERS=1", "OUTSIDE"}},
		"an empty arbiter ends a machine":              {Defines: []string{"BAD_KILL", "PAIRS=1", "PACKETS=2", "FORGOTTEN=1"}},
		"an empty arbiter lets a machine go on":        {Defines: []string{"BAD_FORGOT", "PAIRS=1", "PACKETS=2", "FORGOTTEN=1", "OUTSIDE"}},
		"an empty arbiter denies":                      {Defines: []string{"BAD_DENIED", "PAIRS=1", "PACKETS=2", "FORGOTTEN=1"}},
		"an operator decides without looking":          {Defines: []string{"BAD_DECIDE", "PAIRS=1", "PACKETS=2", "FORGOTTEN=1", "OUTSIDE"}},
		"acknowledged after the decision, seen inside": {Defines: []string{"BAD_ACK"}},
		"a lost link is not noticed":                   {Defines: []string{"BAD_STUCK"}},
	} {
		t.Run(name, func(t *testing.T) {
			// On a slow machine the small ones, and the three that the invariants are made of.
			pace.SkipOnSlow(t, slices.Contains(s.Defines, "PAIRS=1") && slices.Contains(s.Defines, "OUTSIDE") ||
				slices.Contains([]string{"BAD_SOLO", "BAD_EARLY", "BAD_UNNAMED"}, s.Defines[0]))
			if r := search(t, s); !strings.HasPrefix(r.Violation, "assertion violated") {
				t.Fatalf("violation %q, want an assertion:\n%s", r.Violation, r.Output)
			}
		})
	}
	t.Run("a denied claim is repeated", func(t *testing.T) {
		r := search(t, Search{Defines: []string{"BAD_AGAIN", "FAULTS=1"}, Cycles: true})
		if r.Violation != "non-progress cycle" {
			t.Fatalf("violation %q, want a run that does not end:\n%s", r.Violation, r.Output)
		}
	})
}

// TestRead: a report that says less than "everything was seen" is not taken for
// a pass.
func TestRead(t *testing.T) {
	const good = "Full statespace search for:\nState-vector 156 byte, depth reached 58, errors: 0\n  3506362 states, stored\n"
	for name, c := range map[string]struct {
		out       string
		complete  bool
		violation string
	}{
		"good":             {good, true, ""},
		"nothing":          {"", false, ""},
		"cut off":          {"Full statespace search for:\n", false, ""},
		"depth":            {"error: max search depth too small\n" + good, false, ""},
		"memory":           {"pan: reached -DMEMLIM bound\nWarning: Search not completed\n" + good, false, ""},
		"bits":             {strings.Replace(good, "Full", "Bit", 1), false, ""},
		"errors not named": {strings.Replace(good, "errors: 0", "errors: 2", 1), false, "errors: 2"},
		"assertion":        {"pan:1: assertion violated (a==b) (at depth 24)\n" + good, false, "assertion violated (a==b)"},
		"cycle":            {"pan:1: non-progress cycle (at depth 28)\n" + good, false, "non-progress cycle"},
	} {
		r := read(c.out)
		if r.Complete != c.complete || r.Violation != c.violation {
			t.Errorf("%s: complete %v, violation %q; want %v, %q", name, r.Complete, r.Violation, c.complete, c.violation)
		}
	}
}
