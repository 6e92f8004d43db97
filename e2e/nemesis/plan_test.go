package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/e2e/lab"
	voices "github.com/stillpoint-ft/stillpoint/hostd/voice"
	"github.com/stillpoint-ft/stillpoint/proto/control"
)

// planner of rounds, on hosts that only have names.
func planner(seed uint64) (n *nemesis, p, s *lab.Host) {
	p, s = &lab.Host{}, &lab.Host{}
	p.Name, s.Name = "a", "b"
	return &nemesis{random: rand.New(rand.NewPCG(seed, 0))}, p, s
}

func plans(seed uint64, rounds int) (all []plan) {
	n, p, s := planner(seed)
	for range rounds {
		all = append(all, n.plan(p, s))
	}
	return all
}

func describe(p plan) string {
	text := fmt.Sprintf("%v, %v, %v", p, p.before, p.hold)
	if p.wish != nil {
		text += ", then on host " + p.wish.on
	}
	return text
}

func TestPlansFollowFromTheSeed(t *testing.T) {
	one, same, other := plans(7, 50), plans(7, 50), plans(8, 50)
	differ := 0
	for i := range one {
		if describe(one[i]) != describe(same[i]) {
			t.Fatalf("round %d: %s, and again %s", i, describe(one[i]), describe(same[i]))
		}
		if describe(one[i]) != describe(other[i]) {
			differ++
		}
	}
	if differ < 40 {
		t.Errorf("only %d of 50 rounds of another seed differ", differ)
	}
}

// TestEverythingIsPlanned: each fault, each wish and each disturbance comes, with and
// without the others, and a stopped machine starts on either host.
func TestEverythingIsPlanned(t *testing.T) {
	n, p, s := planner(1)
	var names []string
	for _, list := range [][]act{n.disturbances(p, s), n.faultsOf(p, s), n.wishes(p, s)} {
		for _, a := range list {
			if !strings.Contains(a.name, "clock") { // by different times
				names = append(names, a.name)
			}
		}
	}
	seen, wishes, on := map[string]bool{}, 0, map[string]bool{}
	all := plans(2, 2000)
	for _, p := range all {
		for _, a := range p.acts {
			seen[a.name] = true
		}
		if p.wish != nil {
			wishes++
			seen[p.wish.name], on[p.wish.on] = true, true
		}
	}
	for _, who := range []string{"primary", "standby", "witness"} {
		names = append(names, "the "+who+"'s member of the arbiter is emptied")
	}
	for _, name := range names {
		if !seen[name] {
			t.Errorf("%q is never done", name)
		}
	}
	if wishes < len(all)/3 || wishes > 2*len(all)/3 || len(on) != 2 {
		t.Errorf("%d wishes in %d rounds, machines started on %v", wishes, len(all), on)
	}
	for _, word := range []string{"started on the other host", "arbiter is out of reach", "protection is ended", "switched over", "take over",
		"standby is stopped", "member of the arbiter", "supervisor", "both daemons", "does not answer the next",
		"until it gives up", "stopped there meanwhile", "stopped where it is taken over"} {
		if !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, word) }) {
			t.Errorf("nothing is %q", word)
		}
	}
}

// TestWishIsInTheMidst: an operator acts while the faults are carried out, and both are
// waited for. What a fault means may be gone then, but only then.
func TestWishIsInTheMidst(t *testing.T) {
	n, _, _ := planner(1)
	wished := make(chan struct{})
	p := plan{
		acts: []act{{"waits for the wish", func(ctx context.Context) error {
			select {
			case <-wished:
				return os.ErrProcessDone
			case <-ctx.Done():
				return ctx.Err()
			}
		}}},
		wish: &wish{act: act{"wishes", func(context.Context) error { close(wished); return nil }}},
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.carryOut(ctx, p); err != nil {
		t.Error(err)
	}
	p.wish = nil
	if err := n.carryOut(ctx, p); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("without a wish: %v", err)
	}
	failed := errors.New("the judge failed")
	p.acts, p.wish = nil, &wish{act: act{"fails", func(context.Context) error { return failed }}}
	if err := n.carryOut(ctx, p); !errors.Is(err, failed) {
		t.Errorf("a wish that fails: %v", err)
	}
}

// TestOneMemberIsEmptied in a round at most: two of three are more than an arbiter
// survives.
func TestOneMemberIsEmptied(t *testing.T) {
	most := 0
	for _, p := range plans(3, 2000) {
		emptied := 0
		for _, a := range p.acts {
			if strings.Contains(a.name, "is emptied") {
				emptied++
			}
		}
		most = max(most, emptied)
	}
	if most != 1 {
		t.Errorf("%d members of the arbiter are emptied in one round", most)
	}
}

func TestNextStep(t *testing.T) {
	at := func(role string, qemu bool) place { return place{answers: true, role: role, qemu: qemu} }
	waits := func(qemu bool) place { return place{answers: true, role: "solo", wanted: "b", qemu: qemu} }
	silent, nothing := place{qemu: true}, at("", false)
	for _, c := range []struct {
		name     string
		a, b     place
		operator bool
		todo     step
		on       int
	}{
		{"whole", at("protected", true), at("standby", true), false, whole, 0},
		{"whole, the other way", at("standby", true), at("protected", true), true, whole, 1},
		{"whole, and about to end", place{answers: true, role: "protected", qemu: true, ends: true}, at("standby", true), true, wait, 0},
		{"nothing is left, of itself", nothing, nothing, false, wait, 0},
		{"nothing is left, with an operator", nothing, nothing, true, startIt, 0},
		{"a host does not tell", nothing, place{}, true, wait, 0},
		{"a QEMU nobody knows of", nothing, at("", true), true, wait, 0},
		{"alone by a wish", nothing, at("unprotected", true), true, protectIt, 1},
		{"alone, and not by a wish", nothing, at("unprotected", true), false, wait, 0},
		{"solo comes back by itself", waits(true), nothing, true, wait, 0},
		{"solo, and waits for nobody", at("solo", true), nothing, true, protectIt, 0},
		{"the same, and not by a wish", at("solo", true), nothing, false, wait, 0},
		{"its QEMU is dead", at("unprotected", false), nothing, true, clearIt, 0},
		{"the same, solo", nothing, waits(false), true, clearIt, 1},
		{"the other one still decides", at("unprotected", false), at("standby", true), true, wait, 0},
		{"left by an earlier daemon", at("left", true), nothing, true, wait, 0},
		{"left alone", place{answers: true, role: "left", qemu: true, stuck: true}, nothing, false, adoptIt, 0},
		{"left alone, the other host does not tell", place{answers: true, role: "left", qemu: true, stuck: true}, silent, false, wait, 0},
		{"left alone, and an operator wished something", nothing, place{answers: true, role: "left", qemu: true, stuck: true}, true, clearIt, 1},
		{"a host that hangs", silent, at("unprotected", true), true, wait, 0},
	} {
		todo, on := next([2]place{c.a, c.b}, c.operator)
		if todo != c.todo || on != c.on {
			t.Errorf("%s: step %d on host %d, want %d on %d", c.name, todo, on, c.todo, c.on)
		}
	}
}

func TestStoppedIsSilent(t *testing.T) {
	s := stopped{"a", time.Now()}
	if text := s.broken([]lab.VoiceRun{{Host: "b", Frames: 3}}); text != "" {
		t.Errorf("another host's frames: %s", text)
	}
	if text := s.broken([]lab.VoiceRun{{Host: "b"}, {Host: "a", Frames: 1}}); !strings.Contains(text, "host a has stopped the machine") {
		t.Errorf("its own frames: %q", text)
	}
}

// TestGiven: a host has the voice by an event of its own since another spoke. A machine
// that is started has it as well.
func TestGiven(t *testing.T) {
	at := time.Unix(1000, 0)
	event := func(kind string, after time.Duration) lab.Event {
		return lab.Event{Event: &control.Event{Kind: kind, TimeUnixNanos: at.Add(after).UnixNano()}}
	}
	run := lab.VoiceRun{Host: "b", First: at.Add(5 * time.Second)}
	for _, c := range []struct {
		name   string
		events []lab.Event
		want   bool
	}{
		{"nothing", nil, false},
		{"started before it spoke", []lab.Event{event("started", 4*time.Second)}, true},
		{"adopted before it spoke", []lab.Event{event("adopted", 4*time.Second)}, true},
		{"given before the other spoke", []lab.Event{event("solo", -time.Second)}, false},
		{"given after it spoke", []lab.Event{event("solo", 6*time.Second)}, false},
		{"stopped", []lab.Event{event("stopped", 4*time.Second)}, false},
	} {
		if got := given(c.events, run, at); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestALostMachineIsStartedWhereItsVoiceIs: a host that died with the machine has the
// voice still, and none other may start it.
func TestALostMachineIsStartedWhereItsVoiceIs(t *testing.T) {
	held := fmt.Errorf("claim: %w: host b does", voices.ErrHeld)
	for _, c := range []struct {
		refusal error
		want    string
	}{{nil, "a"}, {errors.New("no answer"), "a"}, {held, "ab"}} {
		asked := ""
		startSomewhere("a", "b", func(h string) error { asked += h; return c.refusal })
		if asked != c.want {
			t.Errorf("refused with %v: asked %q, want %q", c.refusal, asked, c.want)
		}
	}
}
